"""How fast are training, prediction, reading and starting, beside a textbook's way and beside what
the machine can do?

    python experiments/benchmark.py [parts=floor+training] [repeats=5] [device=cuda] …

What is compared is timed in turn, several times, and given as median (least to most). The table is
printed, and goes to TrainingOutput/benchmark.json. The textbook's ways are the step and prediction
of experiments/textbook.py, with the same net and pictures: fp32, contiguous layout, plain Adam,
loss.item() each step; and below, full-size decoding and albumentations for each picture each time.
Three parts are run only when named: `whole`, a published system's whole training
(recipes/cityscapes.py on made-up pictures), for GPUs; `profile`, where a step's time goes; and
`score`, the seconds of training until a score is reached (reaching.py).
"""

import itertools
import json
import platform
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from toolbox import cache, settings
from toolbox.errors import InputError, check_parts
from toolbox.files import write_text
from toolbox.machine import Place
from toolbox.processes import cores

import textbook
from measuring import (
    add_share,
    all_reduce,
    compare,
    count_work,
    make_pairs,
    run,
    run_steps,
    show,
    show_spreads,
    spread,
    time_in_turn,
)
from reaching import measure_reaching

import inference
import train
from dataset import SegmentationDataset, make_augment, prepare, training_batches
from model import build_model
from utils import save_checkpoint

ROOT = Path(__file__).resolve().parent.parent

parts = "floor+training+prediction+data+start+processes"  # of PARTS
repeats = 5  # times that each thing is timed
device = "auto"  # as in train.py
precision = "auto"  # as in train.py, for ours
pictures = 8  # made for each data set
whole_iterations = 1250  # steps of the whole run
score_on = "streets"  # or camvid: where the score of parts=score is to be reached
data_dir = "Dataset"  # as in train.py, for parts=score
seeds = 3  # of parts=score


# ---- the textbook's ways ----


def textbook_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    images: Tensor,
    masks: Tensor,
) -> float:
    """textbook.py's step, to whose device floats travel; with its scaler on, in its own mixed
    precision."""
    target = next(model.parameters()).device
    images, masks = images.to(target), masks.to(target)
    if not scaler.is_enabled():
        return textbook.train_step(model, optimizer, images, masks)
    model.train()
    with torch.autocast(target.type):
        loss = nn.functional.cross_entropy(model(images), masks)
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return loss.item()


def textbook_prediction(model: nn.Module, image: Tensor) -> Tensor:
    target = next(model.parameters()).device
    with torch.autocast(target.type, enabled=False):
        return textbook.predict(model, image.to(target)).cpu()


class TextbookDataset(torch.utils.data.Dataset):
    """Decodes the file at its full size each time, and leaves the rest to albumentations."""

    def __init__(self, pairs: list, size: tuple[int, int]):
        import albumentations as A
        from albumentations.pytorch import ToTensorV2

        self.pairs = pairs
        self.transform = A.Compose(
            [
                A.Resize(*size),
                A.Rotate(limit=35, p=1.0),
                A.HorizontalFlip(p=0.5),
                A.VerticalFlip(p=0.1),
                A.Normalize(mean=(0, 0, 0), std=(1, 1, 1), max_pixel_value=255),
                ToTensorV2(),
            ]
        )

    def __getitem__(self, i: int) -> tuple:
        image = np.array(Image.open(self.pairs[i].image).convert("RGB"))
        mask = np.array(Image.open(self.pairs[i].mask).convert("L"))
        both = self.transform(image=image, mask=mask)
        return both["image"], both["mask"]


# ---- what is timed ----


def cases(place: Place) -> list[dict]:
    """The default net; the paper's with single small pictures, as it is trained by most who have it
    from elsewhere; and at a size that suits the machine."""
    default = {"name": "default net", "features": (16, 32, 64), "classes": 9, "rounds": 5}
    default |= {"image_size": (80, 128), "batch_size": 4}
    single = {"name": "64 to 512, singly", "features": (64, 128, 256, 512), "classes": 2}
    single |= {"image_size": (176, 240), "batch_size": 1, "rounds": 1}
    large = {"name": "64 to 512", "features": (64, 128, 256, 512), "classes": 24, "rounds": 1}
    if place.device.type == "cuda":
        large |= {"image_size": (256, 512), "batch_size": 12}
    else:
        large |= {"image_size": (128, 256), "batch_size": 4}
    return [default, single, large]


def arguments_of(case: dict) -> dict:
    """What builds a case's net."""
    constants = {**train.constants(), "features": case["features"], "dropout": 0.0}
    return settings.model_arguments(constants, case["classes"])


def make_training(folder: Path, case: dict) -> train.Training:
    """train.py's own Training with these constants, on a data set made for it."""
    constants = {"loss": "ce", "dropout": 0.0, "device": device, "precision": precision}
    constants["training_scale"] = 1.0
    for name in ("batch_size", "features", "image_size"):
        constants[name] = case[name]
    vars(train).update(constants)
    height, width = (max(side, 64) for side in case["image_size"])
    endings = (".png", ".png")
    made = make_pairs(folder / case["name"], width, height, case["classes"], endings, 6)
    return train.Training(prepare(str(made), "", train.image_size), Place(device, precision))


def first_batch(training: train.Training, case: dict) -> tuple[Tensor, Tensor]:
    """Pictures as they are."""
    stream = SegmentationDataset(training.data, "train", make_augment(case["image_size"], ""))
    return next(training_batches(stream, case["batch_size"]))


def measure_floor(place: Place, _: Path, __: dict) -> dict:
    """The machine's rates: multiplying square matrices in the precision that is used, and in fp32;
    copying 256 MB."""
    side = 8192 if place.device.type == "cuda" else 2048
    found = {}
    for name, dtype in {"fp32": torch.float32, place.precision: place.dtype}.items():
        a, b = (torch.randn(side, side, device=place.device).to(dtype) for _ in range(2))
        seconds = time_in_turn({name: partial(torch.matmul, a, b)}, repeats)[name]
        rates = [2 * side**3 / value / 1e9 for value in seconds]
        found[f"matrix rate {name}, GFLOP/s"] = spread(rates)
    block, other = torch.zeros(2, 2**26, device=place.device)
    seconds = time_in_turn({"copy": lambda: other.copy_(block)}, repeats)["copy"]
    rates = [2 * block.nbytes / value / 1e9 for value in seconds]
    found["copy rate, GB/s read and written"] = spread(rates)
    show_spreads("floor", found, 1)
    return found


def measure_training(place: Place, folder: Path, results: dict) -> dict:
    """One step: train.py's take_step as it is, against the textbook's, from the same weights, with
    the same first loss."""
    found = {}
    for case in cases(place):
        training = make_training(folder, case)
        batch = first_batch(training, case)
        floats, masks = batch[0].float().contiguous(), batch[1].long()
        things = {"ours": partial(training.take_step, itertools.repeat(batch))}
        names = ["textbook"]
        if place.device.type == "cuda":
            names.append("textbook, fp16")
        for name in names:
            model = build_model(**arguments_of(case)).to(place.device)
            model.load_state_dict(training.model.state_dict())
            optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
            scaler = torch.amp.GradScaler(place.device.type, enabled=name != "textbook")
            things[name] = partial(textbook_step, model, optimizer, scaler, floats, masks)
        work = count_work(build_model(**arguments_of(case)).to("meta"), batch[0].to("meta"), True)
        first = {name: thing() for name, thing in things.items()}
        allowed = 1e-3 if place.precision == "fp32" else 5e-2
        if max(first.values()) - min(first.values()) > allowed * first["ours"]:
            raise InputError(
                f"the first losses differ: {first}; the two ways don't compute the same"
            )
        timed = compare(time_in_turn(things, repeats * case["rounds"]), "ours")
        timed["images/s"] = case["batch_size"] / timed["seconds"]["ours"]["median"]
        add_share(timed, results, place, *work)
        height, width = case["image_size"]
        size = f"{width}×{height}, batch {case['batch_size']}"
        show(f"training step, {case['name']}, {size}, on {place}", timed)
        found[case["name"]] = timed
    return found


def measure_prediction(place: Place, _: Path, results: dict) -> dict:
    """The classes of one picture of the net's size: inference.py's net against the textbook's way,
    from the same weights."""
    found = {}
    for case in cases(place):
        arguments = arguments_of(case)
        torch.manual_seed(0)
        model = build_model(**arguments)
        saved = {"model": arguments, "weights": model.state_dict()}
        net, plain = inference.load_model(saved, place), model.to(place.device)
        height, width = case["image_size"]
        picture = np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.uint8)
        floats = torch.from_numpy(picture[0]).permute(2, 0, 1).float().contiguous()

        def ours(net=net, shape=(height, width), picture=picture) -> np.ndarray:
            return inference.predict(net, [shape], picture, place)[0].ids

        things = {"ours": ours, "textbook": partial(textbook_prediction, plain, floats)}
        allowed = 1e-3 if place.precision == "fp32" else 0.05
        if (things["ours"]() != things["textbook"]().numpy()).mean() > allowed:
            raise InputError("the two ways give different classes")
        with place.autocast():
            timed = compare(time_in_turn(things, repeats * case["rounds"] * 2), "ours")
        with torch.no_grad():
            net = build_model(**arguments).to("meta").eval()
            work = count_work(net, floats[None].to("meta"), backward=False)
        add_share(timed, results, place, *work)
        title = f"prediction of one picture, {case['name']}, {width}×{height}, on {place}"
        show(title, timed)
        found[case["name"]] = timed
    return found


def measure_data(_: Place, folder: Path, __: dict) -> dict:
    """One picture and mask, read and augmented by a single process: ours from the cache, and the
    textbook's; and ours for the first time, when all files are checked and the cache is filled, on
    all cores."""
    found = {}
    for name, width, height, endings, size in (
        ("Carvana", 1918, 1280, (".jpg", ".gif"), (160, 240)),
        ("Cityscapes", 2048, 1024, (".png", ".png"), (256, 512)),
    ):
        made = make_pairs(folder / name, width, height, 2, endings, pictures)
        data = prepare(str(made), "", size)
        stream = SegmentationDataset(data, "train", make_augment(size, "rotate+flip+vflip"), 0)
        plain = TextbookDataset(data.pairs, size)
        positions, rows = itertools.count(), itertools.cycle(range(pictures))

        def read_cached(stream=stream, positions=positions) -> None:
            for _ in range(10 * pictures):
                stream[next(positions)]

        def read_first(made=made, size=size) -> None:
            shutil.rmtree(cache.CACHE)
            prepare(str(made), "", size)

        def read_plain(plain=plain, rows=rows) -> None:
            for _ in range(pictures):
                plain[next(rows)]

        things = {"ours, cached": read_cached, "ours, first time": read_first}
        times = time_in_turn({**things, "textbook": read_plain}, repeats)
        for key, values in times.items():
            count = 10 * pictures if "cached" in key else pictures
            times[key] = [value / count for value in values]
        timed = compare(times, "ours, cached")
        speed = 1 / timed["seconds"]["ours, cached"]["median"]
        timed["pictures/s of one process"] = speed
        sizes = f"{width}×{height} to {size[1]}×{size[0]}"
        show(f"data path, {name}-size pictures of {sizes}, for each picture", timed)
        found[name] = timed
    return found


def measure_start(place: Place, folder: Path, _: dict) -> dict:
    """Seconds from `python train.py` to the end of the first step, with the cache there; and of
    `python inference.py` on one picture."""
    arguments = arguments_of({"features": (16, 32, 64), "classes": 9})
    checkpoint = {
        "format": 1,
        "model": arguments,
        "weights": build_model(**arguments).state_dict(),
        "classes": [{"name": str(i), "color": [i, i, i]} for i in range(9)],
        "image_size": [80, 128],
        "scale": 0.55,
    }
    save_checkpoint(folder / "unet_model.pth", checkpoint)
    inputs = Path("InferenceOutput", "TestImages")
    (folder / inputs).mkdir(parents=True)
    shutil.copy(next((ROOT / inputs).iterdir()), folder / inputs)
    chosen = [f"device={device}", f"precision={precision}"]
    command = [sys.executable, ROOT / "inference.py", "overwrite=true", *chosen]

    def color_one() -> None:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)

    first_step, coloured = "train.py to the first step", "inference.py on one picture"
    things = {first_step: lambda: run_steps(folder, 0, 1, *chosen), coloured: color_one}
    found = compare(time_in_turn(things, repeats), first_step)
    del found["times as fast as"][coloured]
    show(f"start-up on {place}", found)
    return found


def measure_processes(place: Place, folder: Path, _: dict) -> dict:
    """The default run's images/s on one process with all cores (or one GPU), and on as many
    processes as there are cores (or GPUs), with as many pictures to a step in all."""
    count = torch.cuda.device_count() if place.device.type == "cuda" else cores()
    chosen = [f"device={device}", f"precision={precision}"]
    runs: dict[int, list] = {1: [], count: []}
    for _ in range(min(repeats, 3)):
        for number in runs:
            batch = f"batch_size={4 * count // number}"
            runs[number].append(run_steps(folder, 40, number, *chosen, batch)[1:])
    found = {}
    for number, values in runs.items():
        found[f"images/s, {number} processes"] = spread([speed for speed, _ in values])
    found["waiting for pictures"] = spread([share for _, share in runs[1]])
    if count > 1:
        ratios = [many / one for (one, _), (many, _) in zip(runs[1], runs[count])]
        found[f"{count} processes against one"] = spread(ratios)
        found["seconds to add up 124 MB"] = spread(all_reduce(folder, count, device, repeats))
    show_spreads(f"default run on {place}", found, 3)
    return found


def measure_whole(place: Place, folder: Path, _: dict) -> dict:
    """recipes/cityscapes.py from its first step to its last, evaluations and saves as its constants
    say, on made-up 512×256 pictures."""
    made = make_pairs(folder / "whole", 512, 256, 24, (".png", ".png"), 300)
    program = (
        "import sys, pathlib; sys.path.insert(0, sys.argv.pop(1)); import train\n"
        "from toolbox import cache, settings; cache.CACHE = pathlib.Path('cache')\n"
        "settings.run_script(vars(train), train.main)"
    )
    command = [sys.executable, "-c", program, ROOT, ROOT / "recipes" / "cityscapes.py"]
    command += [f"dataset={made}", f"training_iterations={whole_iterations}", "run_dir=run"]
    run([*command, f"device={device}", f"precision={precision}"], folder)
    report = json.loads((folder / "run" / "report.json").read_text())
    rows = (folder / "run" / "history.csv").read_text().splitlines()[1:]
    start, end = (float(row.split(",")[2]) for row in (rows[0], rows[-1]))
    found = {
        "seconds to the first evaluation, compiling": start,
        "seconds from there to the end": end - start,
        "images/s in training": report["images_per_second"],
    }
    print(f"recipes/cityscapes.py, {whole_iterations} steps of 48 pictures, on {place}")
    for name, value in found.items():
        print(f"    {name:<44} {value:10.1f}")
    return found


def measure_score(place: Place, _: Path, __: dict) -> dict:
    """Seconds of training until a score is reached, ours and the textbook's, in turn."""
    return measure_reaching(place, score_on, str(ROOT / data_dir), seeds)


def measure_profile(place: Place, folder: Path, _: dict) -> dict:
    """The operators or kernels that a step of the larger net spends its time in."""
    from torch.profiler import ProfilerActivity, profile

    case = cases(place)[-1]
    training = make_training(folder / "profile", case)
    batches = itertools.repeat(first_batch(training, case))
    for _ in range(3):
        training.take_step(batches)
    kinds, column = [ProfilerActivity.CPU], "self_cpu_time_total"
    if place.device.type == "cuda":
        kinds, column = [*kinds, ProfilerActivity.CUDA], "self_cuda_time_total"
    with profile(activities=kinds) as profiler:
        for _ in range(3):
            training.take_step(batches)
    print(profiler.key_averages().table(sort_by=column, row_limit=20, max_name_column_width=60))
    return {}


PARTS = {
    "floor": measure_floor,
    "training": measure_training,
    "prediction": measure_prediction,
    "data": measure_data,
    "start": measure_start,
    "processes": measure_processes,
    "whole": measure_whole,
    "score": measure_score,
    "profile": measure_profile,
}


def main() -> None:
    chosen = check_parts("parts", parts, PARTS, "floor+training")
    place = Place(device, precision)
    machine = f"{cores()} cores, {platform.machine()}"
    if place.device.type == "cuda":
        machine = torch.cuda.get_device_name(place.device)
    results: dict = {"machine": f"{place}: {machine}", "torch": torch.__version__}
    results["python"] = platform.python_version()
    print(", ".join(f"{key} {value}" for key, value in results.items()))
    for part, measure in PARTS.items():
        if measure in chosen:
            with tempfile.TemporaryDirectory() as folder:
                cache.CACHE = Path(folder, "cache")
                results[part] = measure(place, Path(folder), results)
    path = ROOT / "TrainingOutput" / "benchmark.json"
    with suppress(OSError, ValueError):  # other parts stay, if they are of the same machine
        earlier = json.loads(path.read_text())
        if earlier["machine"] == results["machine"]:
            results = {**earlier, **results}
    write_text(path, json.dumps(results, indent=1))
    print(f"all of it is in {path}")


if __name__ == "__main__":
    settings.run_script(globals(), main)
