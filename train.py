"""Train a U-Net: edit the constants, then `python train.py`.

One step is accum_steps micro-batches of batch_size pictures, then one update of the weights. Along the way the run is judged
on training and validation pictures; the best weights by validation are kept and, at the end, reported on every split.

    python train.py [recipes/NAME.py] [name=value …]     a recipe, or name=value, sets constants for one run

What a run leaves is in TrainingOutput/<dataset>-<date>-<time>; its best weights are unet_model.pth too, which inference.py takes.
"""
import csv
import io
import json
import math
import shutil
import time
from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from tqdm import tqdm

import utils
from dataset import Data, InputError, SegmentationDataset, make_augment, ordered_batches, prepare, report, training_batches
from model import build_model, count_parameters

# data
dataset = "streets"  # streets, cityscapes, cityscapes24, cityscapes34, carvana, voc2007, voc2012, gta5, camvid, or a folder of your own
data_dir = "Dataset"  # where named data sets lie, in a folder of their name
image_size = (80, 128)  # (height, width) that pictures are resized to; twice the side is four times the work
cache = True  # keep resized pictures in Dataset/cache; False decodes every file every time, for disks too small
num_workers = 0  # processes that read and augment; on a GPU about the number of cores, on a CPU they take the net's time

# model
architecture = "unet"  # or unet++, whose skips are nets of their own: finer at the same features, and two to three times the work
features = (16, 32, 64)  # channels of each level; the paper's (64, 128, 256, 512) do 20 times the work
dropout = (0.0, 0.0)  # share of activations dropped in training after a block's two convolutions; for small data sets that are learnt by heart
bias = True  # of the convolutions; the batch norm after them has its own, so that False loses nothing
activation = "relu"  # or leaky_relu
padded = True  # False: the paper's convolutions, which lose their border; the picture is padded with its mirror image instead
down = "pool"  # halve by the largest of four pixels, or by a learnt convolution: conv
up = "transposed"  # double by a learnt 2×2 patch, or by repeating pixels: nearest
deep_supervision = False  # unet++ only: train an output on each of its depths

# optimisation
batch_size = 4  # pictures in a micro-batch; what memory allows
accum_steps = 1  # micro-batches to a step; raise it where batch_size must be small
training_iterations = 1800  # steps; images seen = steps * accum_steps * batch_size
loss = "ce+dice"  # ce: every pixel alike; dice: every class alike, however few its pixels; a sum: both; or focal, tversky, lovasz
class_weights = 0.0  # ce and focal: pixels count by (their class's share of training pixels) ** -this; 0: alike, 0.5, 1: every class alike
focal_gamma = 2.0  # focal: how much less a pixel counts that is right already
tversky_beta = 0.7  # tversky: weight of a missed pixel; one wrongly found has the rest to 1
lr_schedule = "sqrt"  # sqrt, cosine (to min_lr at the last step) or plateau (to a tenth where validation stands still)
base_lr = 6e-3  # learning rate after the warm-up
min_lr = 1e-4  # … and never below this
warmup_steps = 50  # steps of quadratic rise: Adam's averages are rough at first
decay_factor = 5e7  # sqrt: the rate falls by the square root of (steps since warm-up / decay_factor)
plateau_patience = 5  # plateau: evaluations without a lower validation loss before the rate falls
weight_decay = 0.01
grad_clip = 1.0  # longest gradient that is followed, longer ones are shortened to it; 0 = no limit
augment = "zoom+flip+color+grey"  # what may differ between two pictures of one thing; also vflip, rotate; "" = nothing
seed = 0  # split, start, order, augmentation and dropout all follow from it

# judging
eval_interval = 200  # steps between evaluations
eval_iterations = 16  # batches of each split per evaluation; 0 = all
patience = 0  # evaluations without a better validation mean IoU before the run ends early; 0 = never
save_model_interval = 200  # steps between saves of last.pth

# machine
device = "auto"  # auto, cpu, cuda, cuda:1, mps
precision = "auto"  # auto, fp32, bf16, fp16; auto is bf16 where the chip computes in it, else fp16 on GPUs and fp32 on CPUs
compile_model = True  # torch.compile where there is a GPU, triton and a C compiler: a minute at the start, faster ever after
run_dir = ""  # where the run's files go; "" = TrainingOutput/<dataset>-<date>-<time>


def holds_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("last.pth", "best.pth", "history.csv", "report.json"))


def check_settings() -> None:
    """What no data set could make right, said before anything is read."""
    positive = {name: globals()[name] for name in ("batch_size", "accum_steps", "training_iterations", "eval_interval", "save_model_interval",
                                                   "base_lr", "decay_factor", "plateau_patience")}
    not_negative = {name: globals()[name] for name in ("num_workers", "eval_iterations", "min_lr", "warmup_steps", "weight_decay", "grad_clip", "seed",
                                                       "class_weights", "focal_gamma", "tversky_beta", "patience")}
    for name, value in {**positive, **not_negative}.items():
        if value < 0 or value == 0 and name in positive:
            raise InputError(f"{name} is {value}; expected {'more than 0' if name in positive else '0 or more'}")
    for name, value, example in (("image_size", image_size, (80, 128)), ("features", features, (16, 32, 64))):
        if not value or len(value) != 2 and name == "image_size" or any(type(number) is not int or number < 1 for number in value):
            raise InputError(f"{name} is {value}; expected whole numbers above 0 such as {example}")
    shares = dropout if isinstance(dropout, tuple) else (dropout, dropout)
    if len(shares) != 2 or not all(0 <= share < 1 for share in shares):
        raise InputError(f"dropout is {dropout}; expected one share from 0 to below 1, or two, for a block's first and second convolution")
    if tversky_beta > 1:
        raise InputError(f"tversky_beta is {tversky_beta}; expected 0 to 1")
    if lr_schedule not in utils.SCHEDULES:
        raise InputError(f"lr_schedule is {lr_schedule!r}; expected {', '.join(utils.SCHEDULES)}")
    if run_dir and holds_run(Path(run_dir)):
        raise InputError(f"run_dir {run_dir} holds a run already; name another, or move that one away")
    try:
        with torch.device("meta"):  # the model's own checks, without its memory
            build_model(**model_arguments(2))
    except ValueError as error:
        raise InputError(str(error)) from error
    utils.make_loss(loss)
    make_augment(image_size, augment)


def model_arguments(num_classes: int) -> dict:
    """What builds the net; it stands in the checkpoint."""
    return {"architecture": architecture, "num_classes": num_classes, "in_channels": 3, "features": list(features),
            "dropout": list(dropout) if isinstance(dropout, tuple) else dropout, "bias": bias, "activation": activation, "padded": padded,
            "down": down, "up": up, "deep_supervision": deep_supervision}


def rate_at(step: int, history: list[dict]) -> float:
    """The learning rate of a step, given the evaluations before it."""
    falls = utils.count_plateaus([row["val_loss"] for row in history], plateau_patience)
    return utils.learning_rate(step, base_lr, min_lr, warmup_steps, decay_factor, lr_schedule, training_iterations, falls)


def best_evaluation(history: list[dict]) -> int:
    """Which evaluation had the highest validation mean IoU; one that is not a number is the worst."""
    return max(range(len(history)), key=lambda i: -1 if math.isnan(history[i]["val_mean_iou"]) else history[i]["val_mean_iou"])


def make_run(name: str) -> Path:
    """The run's folder: run_dir, or a new one named after the data set and the time."""
    run = Path(run_dir) if run_dir else Path("TrainingOutput") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    run.mkdir(parents=True, exist_ok=bool(run_dir))
    return run


def can_compile(place: utils.Place) -> bool:
    """torch.compile is worth its wait on GPUs; it needs triton, which not every system has, and a C compiler."""
    return place.device.type == "cuda" and find_spec("triton") is not None and any(map(shutil.which, ("cc", "gcc", "clang")))


def train_step(model: nn.Module, batches: Iterator, loss_of, optimizer, scaler, place: utils.Place,
               step: int, rate: float) -> float:
    """accum_steps micro-batches, then one update; returns their mean loss."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    model.train()
    torch.manual_seed(seed * 1_000_003 + step)  # dropout follows from the step, so that a run can be taken up anywhere
    total = torch.zeros((), device=place.device)
    for _ in range(accum_steps):
        images, masks = place.put(next(batches))
        with place.autocast():
            logits = model(images)
        part = loss_of(logits, masks.repeat(len(logits) // len(masks), 1, 1)) / accum_steps  # deep supervision gives several logits to a mask
        scaler.scale(part).backward()
        total += part.detach()
    loss_value = total.item()  # the one wait for the device in a step
    if not math.isfinite(loss_value):
        raise InputError(f"the loss is {loss_value} at step {step}, which was not taken; lower base_lr ({base_lr}) or set precision=fp32")
    scaler.unscale_(optimizer)
    if grad_clip:
        nn.utils.clip_grad_norm_(model.parameters(), grad_clip)
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad(set_to_none=True)
    return loss_value


def make_train_loss(data: Data, place: utils.Place) -> utils.Loss:
    """The loss that the constants name, with class weights counted from the training split."""
    counted = torch.from_numpy(data.pixels[data.splits["train"]].sum(axis=0))[:len(data.table.names)]
    weights = utils.weigh_classes(counted, class_weights).to(place.device) if class_weights else None
    return utils.make_loss(loss, weights, focal_gamma, tversky_beta)


@torch.no_grad()
def evaluate(model: nn.Module, split: SegmentationDataset, loss_of, place: utils.Place) -> dict:
    """Loss, pixel accuracy and mean IoU on eval_iterations batches at image_size, in eval mode and without augmentation."""
    model.eval()
    matrix = utils.ConfusionMatrix(model.num_classes, place.device)
    losses, count = torch.zeros((), device=place.device), 0
    for batch in ordered_batches(split, batch_size, eval_iterations):
        images, masks = place.put(batch)
        with place.autocast():
            logits = model(images)
        losses += loss_of(logits, masks) * len(images)
        count += len(images)
        matrix.update(logits.argmax(1), masks)
    scores = matrix.scores()
    return {"loss": losses.item() / count, "pixel_accuracy": scores["pixel_accuracy"], "mean_iou": scores["mean_iou"]}


@torch.no_grad()
def draw_predictions(path: Path, model: nn.Module, split: SegmentationDataset, place: utils.Place) -> None:
    """image | mask | prediction for a few pictures of a split, the same ones each time."""
    model.eval()
    images, masks = next(ordered_batches(split, 4, 1))
    with place.autocast():
        preds = model(images.to(place.device)).argmax(1).cpu()
    names, colors = split.data.table.names, split.data.table.colors
    rows = [[image.permute(1, 2, 0).numpy(), utils.color_mask(mask.numpy(), colors), utils.color_mask(pred.numpy(), colors)]
            for image, mask, pred in zip(images, masks, preds)]
    utils.save_picture(path, utils.sheet(rows, names, colors))


def describe(model: nn.Module, arguments: dict, data: Data, step: int, metrics: dict) -> dict:
    """The checkpoint: all that inference needs to know."""
    constants = {name: list(value) if isinstance(value, tuple) else value for name, value in utils.settings_of(globals()).items()}
    return {"format": 1, "model": arguments, "weights": {name: tensor.cpu() for name, tensor in model.state_dict().items()},
            "classes": [{"name": name, "color": list(color)} for name, color in zip(data.table.names, data.table.colors)],
            "image_size": list(image_size), "scale": data.scale(), "step": step, "metrics": metrics, "constants": constants}


def write_history(run: Path, history: list[dict]) -> None:
    """history.csv and its curves."""
    text = io.StringIO()
    table = csv.DictWriter(text, history[0].keys())
    table.writeheader()
    table.writerows(history)
    utils.write_atomic(run / "history.csv", lambda file: file.write(text.getvalue().encode()))
    utils.draw_curves(run / "curves.png", history)


@torch.no_grad()
def judge(model: nn.Module, split: SegmentationDataset, place: utils.Place, name: str) -> utils.ConfusionMatrix:
    """The whole split, each picture's logits resized to its mask's own size, as published results are counted."""
    model.eval()
    matrix = utils.ConfusionMatrix(model.num_classes, place.device)
    rows = iter(split.rows)
    for batch in tqdm(ordered_batches(split, batch_size), f"judging {name}", -(-len(split) // batch_size), leave=False):
        images, _ = place.put(batch)
        with place.autocast():
            logits = model(images)
        for one, row in zip(logits, rows):
            mask = torch.from_numpy(split.data.read_full_mask(row)).to(place.device)
            matrix.update(F.interpolate(one[None], size=mask.shape, mode="bilinear").argmax(1)[0], mask)
    return matrix


def write_report(run: Path, model: nn.Module, splits: dict[str, SegmentationDataset], place: utils.Place, facts: dict) -> None:
    """report.json, the confusion matrix of the last split, and the closing table."""
    names, last = splits["train"].data.table.names, list(splits)[-1]
    matrices = {name: judge(model, split, place, name) for name, split in splits.items()}
    scores = {name: matrix.report(names) for name, matrix in matrices.items()}
    utils.draw_confusion(run / "confusion.png", matrices[last].counts, names)
    text = json.dumps({**scores, **facts, "judged_on": last}, indent=1)
    utils.write_atomic(run / "report.json", lambda file: file.write(text.encode()))
    print(utils.format_report(scores))


def main() -> None:
    check_settings()
    place = utils.Place(device, precision)
    data = prepare(dataset, data_dir, image_size, cache, seed)
    print(report(data))
    splits = {name: SegmentationDataset(data, name) for name in data.splits}
    stream = SegmentationDataset(data, "train", make_augment(image_size, augment), seed)
    batches = training_batches(stream, batch_size, num_workers=num_workers)

    torch.manual_seed(seed)
    arguments = model_arguments(len(data.table.names))
    model = build_model(**arguments).to(place.device, memory_format=torch.channels_last)
    loss_of = make_train_loss(data, place)
    fast_model = torch.compile(model) if compile_model and can_compile(place) else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=base_lr, weight_decay=weight_decay, fused=True)  # one kernel for all weights
    scaler = torch.amp.GradScaler(place.device.type, enabled=place.dtype == torch.float16)

    run = make_run(data.name)
    epochs = training_iterations * accum_steps * batch_size / len(stream)
    print(f"{count_parameters(model):,} parameters on {place}; {training_iterations} steps are {epochs:.1f} epochs; the run's files are in {run}")
    history: list[dict] = []
    utils.draw_learning_rate(run / "learning_rate.png", [rate_at(step, history) for step in range(1, training_iterations + 1)])
    rates: list[float] = []
    start, training_seconds = time.perf_counter(), 0.0
    bar = tqdm(range(1, training_iterations + 1), "training", unit="step", dynamic_ncols=True)
    for step in bar:
        rates.append(rate_at(step, history))
        began = time.perf_counter()
        loss_value = train_step(fast_model, batches, loss_of, optimizer, scaler, place, step, rates[-1])
        training_seconds += time.perf_counter() - began
        images_seen = step * accum_steps * batch_size
        speed = images_seen / training_seconds
        bar.set_postfix_str(f"loss {loss_value:.3f}, lr {rates[-1]:.1e}, {speed:.1f} images/s", refresh=False)

        is_last = step == training_iterations
        if step % eval_interval == 0 or is_last:
            row = {"step": step, "images_seen": images_seen, "seconds": round(time.perf_counter() - start, 2), "learning_rate": rates[-1]}
            row |= {f"{name}_{key}": value for name in ("train", "val") for key, value in evaluate(model, splits[name], loss_of, place).items()}
            history.append(row)
            write_history(run, history)
            bar.write(f"step {step}: " + ", ".join(f"{key} {row[key]:.3f}" for key in ("train_loss", "val_loss", "train_mean_iou", "val_mean_iou")))
            draw_predictions(run / "predictions" / f"step_{step:06d}.png", model, splits["val"], place)
            since_best = len(history) - 1 - best_evaluation(history)
            if since_best == 0:
                best = describe(model, arguments, data, step, {key: row[key] for key in row if key.startswith("val_")})
                utils.save_checkpoint(run / "best.pth", best)
                utils.save_checkpoint(Path("unet_model.pth"), best)
            if patience and since_best >= patience:
                bar.write(f"no better validation mean IoU in {patience} evaluations: the run ends here (patience)")
                is_last = True
        if step % save_model_interval == 0 or is_last:
            state = {"optimizer": optimizer.state_dict(), "scaler": scaler.state_dict(), "history": history}
            utils.save_checkpoint(run / "last.pth", {**describe(model, arguments, data, step, {}), "resume": state})
        if is_last:
            break

    bar.close()
    utils.draw_learning_rate(run / "learning_rate.png", rates)
    model.load_state_dict(utils.load_checkpoint(run / "best.pth")["weights"])
    facts = {"seconds": round(time.perf_counter() - start, 2), "images_per_second": round(speed, 2),
             "parameters": count_parameters(model), "device": str(place.device), "precision": place.precision}
    write_report(run, model, splits, place, facts)
    print(f"weights: unet_model.pth, the best by validation; pictures, curves and report: {run}")


if __name__ == "__main__":
    utils.run_script(globals(), main)
