"""How fast are training, prediction, reading and starting, beside a textbook's way and beside what the machine can do?

    python tests/benchmark.py [parts=floor+training] [repeats=5] [device=cuda] [precision=bf16]

What is compared is timed in turn, several times, and given as median (least to most). The table is printed, and goes to
TrainingOutput/benchmark.json. The textbook's ways stand below, to be read: fp32, contiguous layout, plain Adam, loss.item() each
step; full-size decoding and albumentations for each picture each time. Two parts are run only when named: `whole`, a published
system's whole training (recipes/cityscapes.py on made-up pictures), for GPUs; and `profile`, where a step's time goes.
"""

import itertools
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import dataset as data_module
import inference
import train
import utils
from dataset import InputError, SegmentationDataset, make_augment, prepare
from model import build_model

parts = "floor+training+prediction+data+start+processes"  # of PARTS
repeats = 5  # times that each thing is timed
device = "auto"  # as in train.py
precision = "auto"  # as in train.py, for ours
pictures = 8  # made for each data set
whole_iterations = 1250  # steps of the whole run

Times = dict[str, list[float]]


# ---- measuring ----


def time_in_turn(things: dict[str, Callable], rounds: int = 0) -> Times:
    """Seconds of each thing, one after the other, again and again, so that a slow moment of the machine meets all of them."""
    for thing in things.values():
        thing()  # compiling, tuning and filling of caches
    times: Times = {name: [] for name in things}
    for _ in range(rounds or repeats):
        for name, thing in things.items():
            synchronize()
            began = time.perf_counter()
            thing()
            synchronize()
            times[name].append(time.perf_counter() - began)
    return times


def synchronize() -> None:
    place = utils.Place(device, "auto").device
    if place.type == "cuda":
        torch.cuda.synchronize(place)


def spread(values: list[float]) -> dict:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def compare(times: Times, ours: str) -> dict:
    """The spread of each thing, and how many times as fast ours is as each other: the median of the rounds' ratios, with spread."""
    ratios = {
        name: spread([other / own for own, other in zip(times[ours], values)])
        for name, values in times.items()
        if name != ours
    }
    return {
        "seconds": {name: spread(values) for name, values in times.items()},
        "times as fast as": ratios,
    }


def show(title: str, found: dict) -> None:
    """One line for each thing that was timed, and one for each ratio."""
    print(title)
    for name, values in found["seconds"].items():
        print(
            f"    {name:<28} {values['median'] * 1000:10.1f} ms  ({values['least'] * 1000:.1f} to {values['most'] * 1000:.1f})"
        )
    for name, values in found["times as fast as"].items():
        print(
            f"    ours against {name:<15} {values['median']:10.2f} times  ({values['least']:.2f} to {values['most']:.2f})"
        )
    for name in [name for name in found if name not in ("seconds", "times as fast as")]:
        print(f"    {name:<28} {found[name]:10.3g}")
    sys.stdout.flush()


# ---- the textbook's ways ----


def textbook_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    images: torch.Tensor,
    masks: torch.Tensor,
) -> float:
    """As a video course has it: floats travel, everything is contiguous; with its scaler on, in its own mixed precision."""
    model.train()
    target = next(model.parameters()).device
    images, masks = images.to(target), masks.to(target)
    with torch.autocast(target.type, enabled=scaler.is_enabled()):
        loss = nn.functional.cross_entropy(model(images), masks)
    optimizer.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    return loss.item()


def textbook_prediction(model: nn.Module, image: torch.Tensor) -> torch.Tensor:
    model.eval()
    with torch.no_grad(), torch.autocast(next(model.parameters()).device.type, enabled=False):
        return model(image.to(next(model.parameters()).device)).argmax(1).cpu()


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
        both = self.transform(
            image=np.array(Image.open(self.pairs[i].image).convert("RGB")),
            mask=np.array(Image.open(self.pairs[i].mask).convert("L")),
        )
        return both["image"], both["mask"]


# ---- made-up data ----


def make_pairs(
    folder: Path, width: int, height: int, classes: int, endings: tuple[str, str], count: int
) -> Path:
    """Soft shapes with a little noise, which compress about as photographs do, as images/ and masks/ of one stem."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        rough = rng.integers(0, 256, (height // 64, width // 64, 3)).astype(np.uint8)
        image = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC).astype(
            np.int16
        ) + rng.normal(0, 4, (height, width, 1)).astype(np.int16)
        mask = cv2.resize(
            rng.integers(0, classes, (height // 16, width // 16)).astype(np.uint8),
            (width, height),
            interpolation=cv2.INTER_NEAREST,
        )
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(
            folder / "images" / f"p{i}{endings[0]}", quality=92
        )
        Image.fromarray(mask).save(folder / "masks" / f"p{i}{endings[1]}")
    rows = "".join(
        f"{i},class{i},{i * 67 % 256},{i * 131 % 256},{i * 197 % 256}\n" for i in range(classes)
    )
    (folder / "classes.csv").write_text("id,name,red,green,blue\n" + rows)
    return folder


def make_training(folder: Path, case: dict) -> train.Training:
    """train.py's own Training with these constants, on a data set made for it."""
    for name, value in {
        "loss": "ce",
        "dropout": 0.0,
        "device": device,
        "precision": precision,
        "batch_size": case["batch_size"],
        "features": case["features"],
        "image_size": case["image_size"],
    }.items():
        setattr(train, name, value)
    height, width = case["image_size"]
    made = make_pairs(
        folder / case["name"], max(width, 64), max(height, 64), case["classes"], (".png", ".png"), 6
    )
    return train.Training(prepare(str(made), "", train.image_size), utils.Place(device, precision))


def cases(place: utils.Place) -> list[dict]:
    """The default net, and the paper's at a size that suits the machine."""
    large = (
        {"image_size": (256, 512), "batch_size": 12}
        if place.device.type == "cuda"
        else {"image_size": (128, 256), "batch_size": 4}
    )
    return [
        {
            "name": "default net",
            "features": (16, 32, 64),
            "image_size": (80, 128),
            "batch_size": 4,
            "classes": 9,
            "rounds": 5,
        },
        {"name": "64 to 512", "features": (64, 128, 256, 512), "classes": 24, "rounds": 1, **large},
    ]


# ---- the parts ----


def measure_floor(place: utils.Place, _: Path) -> dict:
    """The machine's rates: multiplying square matrices in the precision that is used, and in fp32; copying 256 MB."""
    side = 8192 if place.device.type == "cuda" else 2048
    found = {}
    for name, dtype in {"fp32": torch.float32, place.precision: place.dtype}.items():
        a, b = (torch.randn(side, side, device=place.device).to(dtype) for _ in range(2))
        seconds = time_in_turn({name: lambda a=a, b=b: a @ b})[name]
        found[f"matrix rate {name}, GFLOP/s"] = spread(
            [2 * side**3 / value / 1e9 for value in seconds]
        )
    block, other = torch.zeros(2, 2**26, device=place.device)
    seconds = time_in_turn({"copy": lambda: other.copy_(block)})["copy"]
    found["copy rate, GB/s read and written"] = spread(
        [2 * block.nbytes / value / 1e9 for value in seconds]
    )
    print("floor")
    for name, values in found.items():
        print(
            f"    {name:<36} {values['median']:10.1f}  ({values['least']:.1f} to {values['most']:.1f})"
        )
    return found


class ByteCounter(TorchDispatchMode):
    """Bytes that operators read and write, each by itself; what fusing them or a cache saves is saved from these."""

    total = 0

    def __torch_dispatch__(self, function, _, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            self.total += sum(
                thing.nbytes
                for thing in tree_leaves((args, kwargs, result))
                if isinstance(thing, torch.Tensor)
            )
        return result


def count_work(model: nn.Module, images: torch.Tensor, backward: bool) -> tuple[int, int]:
    """FLOP and bytes of a forward pass, or of forward and backward."""
    with FlopCounterMode(display=False) as flop, ByteCounter() as counter:
        model(images).sum().backward() if backward else model(images)
    return flop.get_total_flops(), counter.total


def add_share(found: dict, results: dict, place: utils.Place, flop: int, size: int) -> None:
    """The work, the seconds that it would take at the machine's rates, and how much of the matrix rate ours reaches."""
    found |= {"GFLOP": flop / 1e9, "GB read and written in fp32": size / 1e9}
    if "floor" in results:
        rate, copies = (
            results["floor"][name]["median"] * 1e9
            for name in (
                f"matrix rate {place.precision}, GFLOP/s",
                "copy rate, GB/s read and written",
            )
        )
        found |= {
            "ms at the matrix rate": flop / rate * 1000,
            "ms at the copy rate": size / copies * 1000,
            "share of the matrix rate": flop / found["seconds"]["ours"]["median"] / rate,
        }


def measure_training(place: utils.Place, folder: Path, results: dict) -> dict:
    """One step: train.py's take_step as it is, against the textbook's, from the same weights, with the same first loss."""
    found = {}
    for case in cases(place):
        training = make_training(folder, case)
        arguments = train.model_arguments(case["classes"])
        batch = next(
            train.training_batches(
                SegmentationDataset(training.data, "train", make_augment(case["image_size"], "")),
                case["batch_size"],
            )
        )
        floats, masks = batch[0].float().contiguous(), batch[1].long()
        things = {
            "ours": lambda training=training, batch=batch: training.take_step(
                itertools.repeat(batch)
            )
        }
        first = {}
        for name in (
            ("textbook", "textbook, fp16") if place.device.type == "cuda" else ("textbook",)
        ):
            model = build_model(**arguments).to(place.device)
            model.load_state_dict(training.model.state_dict())
            optimizer, scaler = (
                torch.optim.Adam(model.parameters(), lr=1e-4),
                torch.amp.GradScaler(place.device.type, enabled=name != "textbook"),
            )
            things[name] = (
                lambda model=model, optimizer=optimizer, scaler=scaler, floats=floats, masks=masks: (
                    textbook_step(model, optimizer, scaler, floats, masks)
                )
            )
        work = count_work(build_model(**arguments).to("meta"), batch[0].to("meta"), backward=True)
        first = {name: thing() for name, thing in things.items()}
        if (
            max(first.values()) - min(first.values())
            > (1e-3 if place.precision == "fp32" else 5e-2) * first["ours"]
        ):
            raise InputError(
                f"the first losses differ: {first}; the two ways don't compute the same"
            )
        found[case["name"]] = compare(time_in_turn(things, repeats * case["rounds"]), "ours")
        found[case["name"]]["images/s"] = (
            case["batch_size"] / found[case["name"]]["seconds"]["ours"]["median"]
        )
        add_share(found[case["name"]], results, place, *work)
        height, width = case["image_size"]
        show(
            f"training step, {case['name']}, {width}×{height}, batch {case['batch_size']}, on {place}",
            found[case["name"]],
        )
    return found


def measure_prediction(place: utils.Place, _: Path, results: dict) -> dict:
    """The classes of one picture of the net's size: inference.py's net against the textbook's, from the same weights."""
    found = {}
    for case in cases(place):
        train.features, train.dropout = case["features"], 0.0
        arguments = train.model_arguments(case["classes"])
        torch.manual_seed(0)
        model = build_model(**arguments)
        ours, plain = (
            inference.load_model({"model": arguments, "weights": model.state_dict()}, place),
            model.to(place.device),
        )
        height, width = case["image_size"]
        picture = np.random.default_rng(0).integers(0, 256, (1, height, width, 3)).astype(np.uint8)
        floats = torch.from_numpy(picture).permute(0, 3, 1, 2).float().contiguous()
        things = {
            "ours": lambda: inference.predict(ours, [(height, width)], picture, place)[0].ids,
            "textbook": lambda: textbook_prediction(plain, floats),
        }
        if (things["ours"]() != things["textbook"]().numpy()).mean() > (
            1e-3 if place.precision == "fp32" else 0.05
        ):
            raise InputError("the two ways give different classes")
        with place.autocast():
            found[case["name"]] = compare(
                time_in_turn(things, repeats * case["rounds"] * 2), "ours"
            )
        with torch.no_grad():
            add_share(
                found[case["name"]],
                results,
                place,
                *count_work(
                    build_model(**arguments).to("meta").eval(), floats.to("meta"), backward=False
                ),
            )
        show(
            f"prediction of one picture, {case['name']}, {width}×{height}, on {place}",
            found[case["name"]],
        )
    return found


def measure_data(_: utils.Place, folder: Path) -> dict:
    """One picture and mask, read and augmented by a single process: ours from the cache, and the textbook's; and ours for the first time, when
    all files are checked and the cache is filled, on all cores."""
    found = {}
    for name, width, height, endings, size in (
        ("Carvana", 1918, 1280, (".jpg", ".gif"), (160, 240)),
        ("Cityscapes", 2048, 1024, (".png", ".png"), (256, 512)),
    ):
        made = make_pairs(folder / name, width, height, 2, endings, pictures)
        data = prepare(str(made), "", size)
        stream = SegmentationDataset(data, "train", make_augment(size, "rotate+flip+vflip"), 0)
        textbook = TextbookDataset(data.pairs, size)

        def read_first() -> None:
            shutil.rmtree(data_module.CACHE)
            prepare(str(made), "", size)

        positions, rows = itertools.count(), itertools.cycle(range(pictures))
        times = time_in_turn(
            {
                "ours, cached": lambda: [stream[next(positions)] for _ in range(10 * pictures)],
                "ours, first time": read_first,
                "textbook": lambda: [textbook[next(rows)] for _ in range(pictures)],
            }
        )
        times = {
            key: [value / (10 * pictures if "cached" in key else pictures) for value in values]
            for key, values in times.items()
        }
        found[name] = compare(times, "ours, cached")
        found[name]["pictures/s of one process"] = (
            1 / found[name]["seconds"]["ours, cached"]["median"]
        )
        show(
            f"data path, {name}-size pictures of {width}×{height} to {size[1]}×{size[0]}, for each picture",
            found[name],
        )
    return found


# Runs a script as `python train.py` does, and ends it after so many steps, whose speed and share of waiting it prints.
FEW_STEPS = """
import os, sys
sys.path.insert(0, {root!r})
import train, utils
take = train.Training.take_step
def take_some(training, batches):
    loss = take(training, batches)
    if training.step == {warm}:
        training.training_seconds = training.waiting_seconds = 0.0
    if training.step == {warm} + {steps} or {steps} == 0:
        if utils.rank() == 0:
            speed = {steps} * train.images_per_step() / training.training_seconds if {steps} else 0
            print("speed", speed, training.waiting_seconds / max(training.training_seconds, 1e-9), file=sys.stderr)
        sys.stderr.flush()
        os._exit(0)
    return loss
train.Training.take_step = take_some
utils.run_script(vars(train), train.main)
"""


# Times how long it takes to add up the gradients of the paper's net over all processes.
ALL_REDUCE = """
import sys, time
sys.path.insert(0, {root!r})
import torch, utils
place = utils.Place({device!r}, "fp32")
utils.join_processes(place.device)
gradients, seconds = torch.ones(31_000_000, device=place.device), []
for _ in range({repeats} + 1):
    began = time.perf_counter()
    utils.add_up(gradients)
    gradients[0].item()
    seconds.append(time.perf_counter() - began)
if utils.rank() == 0:
    print("seconds", *seconds[1:])
torch.distributed.destroy_process_group()
"""


def python(count: int) -> list[str]:
    """The command for so many processes."""
    return [
        sys.executable,
        *(
            ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
            if count > 1
            else []
        ),
    ]


def run_steps(folder: Path, steps: int, count: int, *arguments: str) -> tuple[float, float, float]:
    """Seconds until the end, images/s and share of waiting of so many steps of train.py on `count` processes that share the cores."""
    program = folder / "few.py"
    program.write_text(FEW_STEPS.format(root=str(ROOT), steps=steps, warm=5 if steps else 0))
    settings = [
        f"data_dir={ROOT / 'Dataset'}",
        f"device={device}",
        f"precision={precision}",
        *arguments,
    ]
    began = time.perf_counter()
    done = subprocess.run(
        [*python(count), program, *settings],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    seconds = time.perf_counter() - began
    if done.returncode:
        raise InputError(f"train.py failed: {done.stderr[-2000:]}")
    speed, waiting = done.stderr.split("speed ")[1].split()[:2]
    return seconds, float(speed), float(waiting)


def measure_start(place: utils.Place, folder: Path) -> dict:
    """Seconds from `python train.py` to the end of the first step, with the cache there; and of `python inference.py` on one picture."""
    train.features, train.dropout = (16, 32, 64), 0.0
    arguments = train.model_arguments(9)
    classes = [{"name": str(i), "color": [i, i, i]} for i in range(9)]
    utils.save_checkpoint(
        folder / "unet_model.pth",
        {
            "format": 1,
            "model": arguments,
            "weights": build_model(**arguments).state_dict(),
            "classes": classes,
            "image_size": [80, 128],
            "scale": 0.55,
        },
    )
    (folder / "InferenceOutput" / "TestImages").mkdir(parents=True)
    shutil.copy(
        next((ROOT / "InferenceOutput" / "TestImages").iterdir()),
        folder / "InferenceOutput" / "TestImages",
    )
    command = [
        sys.executable,
        ROOT / "inference.py",
        "overwrite=true",
        f"device={device}",
        f"precision={precision}",
    ]
    found = compare(
        time_in_turn(
            {
                "train.py to the first step": lambda: run_steps(folder, 0, 1),
                "inference.py on one picture": lambda: subprocess.run(
                    command, cwd=folder, check=True, capture_output=True
                ),
            }
        ),
        "train.py to the first step",
    )
    del found["times as fast as"]["inference.py on one picture"]
    show(f"start-up on {place}", found)
    return found


def measure_processes(place: utils.Place, folder: Path) -> dict:
    """The default run's images/s on one process with all cores (or one GPU), and on as many processes as there are cores (or GPUs), with as
    many pictures to a step in all."""
    count = torch.cuda.device_count() if place.device.type == "cuda" else utils.cores()
    steps = 40
    runs: dict[int, list] = {1: [], count: []}
    for _ in range(min(repeats, 3)):
        for number in runs:
            runs[number].append(
                run_steps(folder, steps, number, f"batch_size={4 * count // number}")[1:]
            )
    found = {
        f"images/s, {number} processes": spread([speed for speed, _ in values])
        for number, values in runs.items()
    }
    found["waiting for pictures"] = spread([share for _, share in runs[1]])
    if count > 1:
        found[f"{count} processes against one"] = spread(
            [many / one for (one, _), (many, _) in zip(runs[1], runs[count])]
        )
        (folder / "reduce.py").write_text(
            ALL_REDUCE.format(root=str(ROOT), device=device, repeats=repeats)
        )
        done = subprocess.run(
            [*python(count), "reduce.py"], cwd=folder, capture_output=True, text=True, check=True
        )
        found["seconds to add up 124 MB"] = spread(
            [float(value) for value in done.stdout.split("seconds")[1].split()]
        )
    print(f"default run on {place}")
    for name, values in found.items():
        print(
            f"    {name:<36} {values['median']:10.3f}  ({values['least']:.3f} to {values['most']:.3f})"
        )
    return found


def measure_whole(place: utils.Place, folder: Path) -> dict:
    """recipes/cityscapes.py from its first step to its last, evaluations and saves as its constants say, on made-up 512×256 pictures."""
    made = make_pairs(folder / "whole", 512, 256, 24, (".png", ".png"), 300)
    program = (
        "import sys, pathlib; sys.path.insert(0, sys.argv.pop(1)); import dataset, train, utils; dataset.CACHE = pathlib.Path('cache')\n"
        "utils.run_script(vars(train), train.main)"
    )
    command = [
        sys.executable,
        "-c",
        program,
        ROOT,
        ROOT / "recipes" / "cityscapes.py",
        f"dataset={made}",
        f"training_iterations={whole_iterations}",
        "run_dir=run",
        f"device={device}",
        f"precision={precision}",
    ]
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise InputError(f"train.py failed: {done.stderr[-2000:]}")
    report = json.loads((folder / "run" / "report.json").read_text())
    steps = (folder / "run" / "history.csv").read_text().splitlines()[1:]
    start, end = (float(line.split(",")[2]) for line in (steps[0], steps[-1]))
    found = {
        "seconds to the first evaluation, compiling": start,
        "seconds from there to the end": end - start,
        "images/s in training": report["images_per_second"],
    }
    print(f"recipes/cityscapes.py, {whole_iterations} steps of 48 pictures, on {place}")
    for name, value in found.items():
        print(f"    {name:<44} {value:10.1f}")
    return found


def measure_profile(place: utils.Place, folder: Path) -> dict:
    """The operators or kernels that a step of the larger net spends its time in."""
    from torch.profiler import ProfilerActivity, profile

    case = cases(place)[-1]
    training = make_training(folder / "profile", case)
    batch = next(
        train.training_batches(
            SegmentationDataset(training.data, "train", make_augment(case["image_size"], "")),
            case["batch_size"],
        )
    )
    for _ in range(3):
        training.take_step(itertools.repeat(batch))
    kinds = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * (place.device.type == "cuda")]
    with profile(activities=kinds) as profiler:
        for _ in range(3):
            training.take_step(itertools.repeat(batch))
    column = "self_cuda_time_total" if place.device.type == "cuda" else "self_cpu_time_total"
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
    "profile": measure_profile,
}


def main() -> None:
    chosen = parts.split("+")
    if unknown := set(chosen) - PARTS.keys():
        raise InputError(
            f"parts is {parts!r}, of which {unknown.pop()!r} is unknown; expected {', '.join(PARTS)} or some of them such as floor+training"
        )
    place = utils.Place(device, precision)
    name = (
        torch.cuda.get_device_name(place.device)
        if place.device.type == "cuda"
        else f"{utils.cores()} cores, {platform.machine()}"
    )
    results: dict = {
        "machine": f"{place}: {name}",
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    print(", ".join(f"{key} {value}" for key, value in results.items()))
    for part in [part for part in PARTS if part in chosen]:
        with tempfile.TemporaryDirectory() as folder:
            data_module.CACHE = Path(folder, "cache")
            needs_floor = part in ("training", "prediction")
            results[part] = PARTS[part](place, Path(folder), *[results] * needs_floor)
    path = ROOT / "TrainingOutput" / "benchmark.json"
    with suppress(OSError, ValueError):  # other parts stay, if they are of the same machine
        earlier = json.loads(path.read_text())
        results = {**earlier, **results} if earlier["machine"] == results["machine"] else results
    utils.write_atomic(path, lambda file: file.write(json.dumps(results, indent=1).encode()))
    print(f"all of it is in {path}")


if __name__ == "__main__":
    utils.run_script(globals(), main)
