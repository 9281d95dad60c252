"""Train a U-Net: edit the constants, then `python train.py`.

One step is accum_steps micro-batches of batch_size pictures, then one update of the weights. Along the way the run is judged
on training and validation pictures; the best weights by validation are kept and, at the end, reported on every split.

    python train.py [recipes/NAME.py] [name=value …]     a recipe, or name=value, sets constants for one run
    python train.py … resume=true                        the newest run goes on where it was stopped
    torchrun --standalone --nproc_per_node=N train.py …  N processes, each with batch_size pictures of its own in a micro-batch

What a run leaves is in TrainingOutput/<dataset>-<date>-<time>; its best weights are unet_model.pth too, which inference.py takes.
"""

import copy
import filecmp
import json
import math
import os
import shlex
import shutil
import signal
import sys
import sysconfig
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None
import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

import utils
from dataset import (
    Data,
    InputError,
    SegmentationDataset,
    make_augment,
    ordered_batches,
    prepare,
    report,
    stack,
    training_batches,
    writing,
)
from model import build_model, count_parameters

# data
dataset = "streets"  # streets, cityscapes, cityscapes24, cityscapes34, carvana, voc2007, voc2012, gta5, camvid, or a folder of your own
data_dir = "Dataset"  # where named data sets lie, in a folder of their name
image_size = (
    80,
    128,
)  # (height, width) that pictures are resized to; twice the side is four times the work
training_scale = 1.0  # about this share of image_size's sides is trained on; 0.83 is faster, and what zoom enlarged is then as large as when judged
cache = True  # keep resized pictures in Dataset/cache; False decodes every file every time, for disks too small
num_workers = -1  # processes that read and augment beside the net; -1: one for each core on a GPU, and none on a CPU, whose time is the net's

# model
architecture = "unet"  # or unet++, whose skips are nets of their own: finer at the same features, and two to three times the work
features = (
    16,
    32,
    64,
)  # channels of each level; the paper's (64, 128, 256, 512) do 20 times the work
dropout = (
    0.0,
    0.0,
)  # share of activations dropped in training after a block's two convolutions; for small data sets that are learnt by heart
bias = (
    True  # of the convolutions; the batch norm after them has its own, so that False loses nothing
)
activation = "relu"  # or leaky_relu
patch = 1  # side of the squares of pixels that the net takes as one: 2 does a fourth of the work on a picture, for large ones and slow machines
padded = True  # False: the paper's convolutions, which lose their border; the picture is padded with its mirror image instead
down = "pool"  # halve by the largest of four pixels, or by a learnt convolution: conv
up = "transposed"  # double by a learnt 2×2 patch, or by repeating pixels: nearest
deep_supervision = False  # unet++ only: train an output on each of its depths

# optimisation
batch_size = 4  # pictures in a micro-batch; what memory allows
accum_steps = 1  # micro-batches to a step; raise it where batch_size must be small
training_iterations = 1200  # steps; images seen = steps * accum_steps * batch_size
loss = "ce+dice"  # ce: every pixel alike; dice: every class alike, however few its pixels; a sum: both; or focal, tversky, lovasz
class_weights = 0.0  # ce and focal: pixels count by (their class's share of training pixels) ** -this; 0: alike, 0.5, 1: every class alike
focal_gamma = 2.0  # focal: how much less a pixel counts that is right already
tversky_beta = 0.7  # tversky: weight of a missed pixel; one wrongly found has the rest to 1
optimizer = "muon"  # or adamw, which takes the same learning rates and two to three times as long to learn as much
lr_schedule = "sqrt"  # sqrt, cosine (to min_lr at the last step) or plateau (to a tenth where validation stands still)
base_lr = 1e-2  # learning rate after the warm-up
min_lr = 1e-4  # … and never below this
warmup_steps = 50  # steps of quadratic rise: Adam's averages are rough at first
decay_factor = (
    1.2e7  # sqrt: the rate falls by the square root of (steps since warm-up / decay_factor)
)
plateau_patience = 5  # plateau: evaluations without a lower validation loss before the rate falls
weight_decay = 0.1  # times the rate: share of every weight that is taken off in a step; keeps from learning by heart; 0.01 for short runs
grad_clip = 1.0  # longest gradient that is followed, longer ones are shortened to it; 0 = no limit
augment = "zoom+flip+color+grey"  # what may differ between two pictures of one thing; also vflip, rotate; "" = nothing
augment_strength = (
    1.0  # how far zoom and colour go; more, such as 2, where training pictures are learnt by heart
)
ema_decay = 0.0  # share of the average of earlier weights in each step's, 0.999 for instance; the average is judged and kept; 0 = none
seed = 0  # split, start, order, augmentation and dropout all follow from it

# judging
eval_interval = 200  # steps between evaluations
eval_iterations = 16  # batches of each split per evaluation; 0 = all
patience = (
    0  # evaluations without a better validation mean IoU before the run ends early; 0 = never
)
save_model_interval = 200  # steps between saves of last.pth, best.pth and curves.png

# machine
device = "auto"  # auto, cpu, cuda, cuda:1, mps
precision = "auto"  # auto, fp32, bf16, fp16; auto is bf16 where the chip computes in it, else fp16 on GPUs and fp32 on CPUs
compile_model = True  # torch.compile where there is a GPU, triton and a C compiler: a minute at the start, faster ever after
run_dir = ""  # where the run's files go; "" = TrainingOutput/<dataset>-<date>-<time>
resume = ""  # true: go on with the newest run; or the folder of the one to go on with


# What a stopped run may go on with otherwise: none of it changes what is learnt, but for rounding.
FREE_TO_CHANGE = {
    "num_workers",
    "device",
    "precision",
    "data_dir",
    "cache",
    "compile_model",
    "save_model_interval",
    "run_dir",
    "resume",
}


def are_sides(value) -> bool:
    return (
        isinstance(value, tuple)
        and bool(value)
        and all(type(number) is int and number > 0 for number in value)
    )


def check_settings() -> None:
    """What no data set could make right, said before anything is read."""
    rules = (
        (
            "batch_size accum_steps training_iterations eval_interval save_model_interval base_lr decay_factor plateau_patience",
            lambda x: x > 0,
            "more than 0",
        ),
        (
            "eval_iterations min_lr warmup_steps weight_decay grad_clip class_weights augment_strength focal_gamma patience",
            lambda x: x >= 0,
            "0 or more",
        ),
        ("num_workers", lambda x: x >= -1, "0 or more, or -1 for as many as suit the device"),
        ("seed", lambda x: 0 <= x < 2**40, "0 to below 2 ** 40"),
        ("training_scale", lambda x: 0 < x <= 1, "more than 0, to 1"),
        ("tversky_beta", lambda x: 0 <= x <= 1, "0 to 1"),
        ("ema_decay", lambda x: 0 <= x < 1, "0 to below 1"),
        (
            "image_size",
            lambda x: are_sides(x) and len(x) == 2,
            "two whole numbers above 0 such as (80, 128)",
        ),
        ("features", are_sides, "whole numbers above 0 such as (16, 32, 64)"),
        (
            "dropout",
            lambda x: np.shape(x) in ((), (2,)) and all(0 <= share < 1 for share in np.ravel(x)),
            "one share from 0 to below 1, or two, for a block's first and second convolution",
        ),
        ("optimizer", lambda x: x in utils.OPTIMIZERS, " or ".join(utils.OPTIMIZERS)),
        ("lr_schedule", lambda x: x in utils.SCHEDULES, ", ".join(utils.SCHEDULES)),
    )
    for names, fits, expected in rules:
        for name in names.split():
            if not fits(globals()[name]):
                raise InputError(f"{name} is {globals()[name]!r}; expected {expected}")
    try:
        with torch.device("meta"):  # the model's own checks, without its memory
            build_model(**model_arguments(2))
    except ValueError as error:
        raise InputError(str(error)) from error
    utils.make_loss(loss)
    make_augment(training_size(), augment, augment_strength)


def training_size() -> tuple[int, ...]:
    """image_size by training_scale, less by whole multiples of what the net halves to one, so that it pads both alike."""
    multiple = patch * 2 ** len(features)
    return tuple(
        side - multiple * min(round(side * (1 - training_scale) / multiple), (side - 1) // multiple)
        for side in image_size
    )


def model_arguments(num_classes: int) -> dict:
    """What builds the net; it stands in the checkpoint."""
    return {
        "architecture": architecture,
        "num_classes": num_classes,
        "in_channels": 3,
        "features": list(features),
        "dropout": list(dropout) if isinstance(dropout, tuple) else dropout,
        "bias": bias,
        "activation": activation,
        "padded": padded,
        "down": down,
        "up": up,
        "deep_supervision": deep_supervision,
        "patch": patch,
    }


def constants() -> dict:
    """All settings as a checkpoint holds them."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in utils.settings_of(globals()).items()
    }


def rate_at(step: int, history: list[dict]) -> float:
    """The learning rate of a step, given the evaluations before it."""
    falls = utils.count_plateaus([row["val_loss"] for row in history], plateau_patience)
    return utils.learning_rate(
        step, base_lr, min_lr, warmup_steps, decay_factor, lr_schedule, training_iterations, falls
    )


def images_per_step() -> int:
    return accum_steps * batch_size * utils.processes()


def can_compile(place: utils.Place) -> bool:
    """torch.compile is worth its wait on GPUs, not too old ones; it needs triton, which not every system has, a C compiler and Python's headers."""
    has_compiler = (
        any(map(shutil.which, ("cc", "gcc", "clang")))
        and Path(sysconfig.get_path("include"), "Python.h").exists()
    )
    return (
        place.device.type == "cuda"
        and torch.cuda.get_device_capability(place.device)[0] >= 7
        and find_spec("triton") is not None
        and has_compiler
    )


@contextmanager
def memory_explained(place: utils.Place) -> Iterator[None]:
    """Too little memory ends in a sentence that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if "shared memory" in str(error):
            raise InputError(
                "the workers ran out of shared memory, of which containers have little; give more (docker: --shm-size=8g), "
                "or set num_workers=0"
            ) from error
        if not utils.is_out_of_memory(error):
            raise
        fewer = next((size for size in range(batch_size // 2, 0, -1) if batch_size % size == 0), 0)
        instead = (
            f"batch_size={fewer} with accum_steps={accum_steps * batch_size // fewer}, as many pictures to a step"
            if fewer
            else "a smaller image_size"
        )
        raise InputError(
            f"out of memory on {place} with batch_size {batch_size}, image_size {image_size} and features {features}; try {instead}, "
            f"or lower image_size or features ({str(error).splitlines()[0]})"
        ) from error


@contextmanager
def signals_caught() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM are put into a list, for the step in hand to be finished; a second Ctrl-C stops at once."""
    caught: list[int] = []

    def catch(number: int, _) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, action in before.items():
            signal.signal(number, action)


class Training:
    """The net and all that changes while it learns; save and load bring it back to the bit."""

    def __init__(self, data: Data, place: utils.Place):
        torch.manual_seed(seed)
        if place.device.type == "cpu":
            utils.keep_memory()
        torch.backends.cudnn.benchmark = True  # all batches trained on are of one size: GPUs may try out their ways of convolving once
        self.data, self.place = data, place
        self.arguments = model_arguments(len(data.table.names))
        model = build_model(**self.arguments)
        if (
            utils.processes() > 1 and place.device.type == "cuda"
        ):  # on CPUs, where it is not to be had, each process normalises by its own pictures
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        self.layout = place.layout(features[0])
        self.model = model.to(place.device, memory_format=self.layout)
        self.judged = (
            copy.deepcopy(self.model) if ema_decay else self.model
        )  # the weights that are evaluated and kept
        self.shared_model = (
            DistributedDataParallel(self.model) if utils.processes() > 1 else self.model
        )
        self.fast_model = (
            torch.compile(self.shared_model)
            if compile_model and can_compile(place)
            else self.shared_model
        )
        self.optimizer = utils.OPTIMIZERS[optimizer](
            self.model.parameters(), lr=base_lr, weight_decay=weight_decay
        )
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=place.dtype == torch.float16)
        counted = torch.from_numpy(data.pixels[data.splits["train"]].sum(axis=0))[
            : len(data.table.names)
        ]
        weights = (
            utils.weigh_classes(counted, class_weights).to(place.device) if class_weights else None
        )
        self.loss_of = utils.make_loss(loss, weights, focal_gamma, tversky_beta)
        self.splits = {name: SegmentationDataset(data, name) for name in data.splits}
        self.stream = SegmentationDataset(
            data, "train", make_augment(training_size(), augment, augment_strength), seed
        )
        (
            self.step,
            self.skipped,
            self.skipped_in_row,
            self.seconds,
            self.training_seconds,
            self.waiting_seconds,
        ) = 0, 0, 0, 0.0, 0.0, 0.0
        self.history: list[dict] = []
        self.losses: list[float] = []  # of each step since the start or the last resuming
        self.only_class = -1  # the one that the last evaluation took all validation pixels for
        self.rates: list[float] = []
        self.best: dict | None = (
            None  # the best checkpoint so far where the disk does not hold it yet
        )
        self.drawn = 0  # the last evaluation that curves.png shows

    def images_seen(self) -> int:
        return self.step * images_per_step()

    def speed(self) -> float:
        """Images a second while training, evaluations left out."""
        return self.images_seen() / max(self.training_seconds, 1e-9)

    def take_step(self, batches: Iterator) -> float:
        """accum_steps micro-batches, then one update; returns their mean loss."""
        began, step, place = time.perf_counter(), self.step + 1, self.place
        rate = rate_at(step, self.history)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.model.train()
        # Dropout follows from the step, so that a run can be taken up anywhere, and from the process.
        torch.manual_seed(((seed * 1_000_003 + step) * utils.processes() + utils.rank()) % 2**63)
        total = torch.zeros((), device=place.device)
        for part in range(accum_steps):
            waited = time.perf_counter()
            batch = next(batches)
            self.waiting_seconds += time.perf_counter() - waited
            images, masks = place.put(batch, self.layout)
            is_last = (
                part == accum_steps - 1
            )  # with it the gradients of all processes become their mean
            with (
                self.shared_model.no_sync()
                if utils.processes() > 1 and not is_last
                else nullcontext()
            ):
                with place.autocast():
                    logits = self.fast_model(images)
                # Deep supervision gives several logits to a mask.
                part_loss = (
                    self.loss_of(logits, masks.repeat(len(logits) // len(masks), 1, 1))
                    / accum_steps
                )
                self.scaler.scale(part_loss).backward()
            total += part_loss.detach() / utils.processes()
        utils.add_up(total)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), grad_clip or math.inf)
        loss_value, norm_value = torch.stack(
            [total, norm]
        ).tolist()  # the one wait for the device in a step
        self.skipped_in_row = 0 if math.isfinite(norm_value) else self.skipped_in_row + 1
        if not math.isfinite(loss_value) or self.skipped_in_row > (
            20 if self.scaler.is_enabled() else 0
        ):
            raise InputError(self.explain_not_finite(step, rate, loss_value, norm_value))
        self.skipped += (
            self.skipped_in_row > 0
        )  # fp16: the scaler leaves such a step out and scales less
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self.step = step
        self.rates.append(rate)
        self.losses.append(loss_value)
        if ema_decay:
            self.update_average()
        self.training_seconds += time.perf_counter() - began
        return loss_value

    def explain_not_finite(
        self, step: int, rate: float, loss_value: float, norm_value: float
    ) -> str:
        what = (
            f"loss is {loss_value}"
            if not math.isfinite(loss_value)
            else f"gradient's length is {norm_value}"
        )
        first = (step - 1) * images_per_step()
        names = [
            self.data.pairs[self.stream.row(position)].image.name
            for position in range(first, first + images_per_step())
        ]
        cause = (
            f"the learning rate {rate:.1e} is likely too high: start again with a lower base_lr"
            if self.place.dtype == torch.float32
            else f"{self.place.precision} is likely too coarse: go on with precision=fp32, or start again with a lower base_lr"
        )
        return (
            f"the {what} at step {step}, which was not taken; {cause}. Its pictures: {', '.join(names[:16])}{' …' * (len(names) > 16)}. "
            "The run's last.pth holds sound weights of before"
        )

    @torch.no_grad()
    def update_average(self) -> None:
        """Towards the new weights, faster in the first steps, when the average has little to remember."""
        decay = min(ema_decay, self.step / (self.step + 10))
        for mean, new in zip(self.judged.state_dict().values(), self.model.state_dict().values()):
            mean.lerp_(new, 1 - decay) if mean.is_floating_point() else mean.copy_(new)

    def evaluate(self, run: Path) -> str:
        """Judge, write down, draw, and hold the weights if they are the best so far; returns a line that says how it went."""
        utils.share_buffers(
            self.judged
        )  # batch norm's averages are those of the first process, as in the checkpoint
        row = {
            "step": self.step,
            "images_seen": self.images_seen(),
            "seconds": round(self.seconds, 2),
            "learning_rate": self.rates[-1],
        }
        for name in ("train", "val"):
            scores = evaluate(self.judged, self.splits[name], self.loss_of, self.place)
            row |= {f"{name}_{key}": scores[key] for key in ("loss", "pixel_accuracy", "mean_iou")}
        self.only_class = scores["only_class"]
        self.history.append(row)
        if utils.rank() == 0:
            utils.write_table(
                run / "history.csv", [list(row), *(list(past.values()) for past in self.history)]
            )
            val = self.splits["val"]
            draw_predictions(
                run / "predictions" / f"step_{self.step:06d}.png",
                self.judged,
                val,
                watched(val),
                self.place,
            )
            if self.best_evaluation() == len(self.history) - 1:
                self.best = self.describe({key: row[key] for key in row if key.startswith("val_")})
        return f"step {self.step}: " + ", ".join(
            f"{key} {row[key]:.3f}"
            for key in ("train_loss", "val_loss", "train_mean_iou", "val_mean_iou")
        )

    def best_evaluation(self) -> int:
        """Which had the highest validation mean IoU; one that is not a number is the lowest, and where all are so, it is the last."""
        scores = [
            -1 if math.isnan(row["val_mean_iou"]) else row["val_mean_iou"] for row in self.history
        ]
        return scores.index(max(scores)) if max(scores) >= 0 else len(scores) - 1

    def is_due(self) -> bool:
        """Whether an evaluation stands out: one that a signal cut off is made up for when the run is taken up."""
        is_done = self.history and self.history[-1]["step"] == self.step
        return (
            self.step > 0
            and not is_done
            and (self.step % eval_interval == 0 or self.step >= training_iterations)
        )

    def is_over(self) -> bool:
        is_stale = (
            patience and self.history and len(self.history) - 1 - self.best_evaluation() >= patience
        )
        return self.step >= training_iterations or bool(is_stale)

    def describe(self, metrics: dict) -> dict:
        """The checkpoint: all that inference needs to know."""
        table = self.data.table
        return {
            "format": 1,
            "model": self.arguments,
            "weights": {
                name: tensor.to("cpu", copy=True)
                for name, tensor in self.judged.state_dict().items()
            },
            "classes": [
                {"name": name, "color": list(color)}
                for name, color in zip(table.names, table.colors)
            ],
            "image_size": list(image_size),
            "scale": self.data.scale(),
            "step": self.step,
            "metrics": metrics,
            "constants": constants(),
        }

    def keep_best(self, run: Path) -> None:
        """Put the best weights where the disk has worse ones."""
        if self.best:
            utils.save_checkpoint(run / "best.pth", self.best)
            publish(run)
            self.best = None

    def save(self, run: Path) -> None:
        """best.pth, then last.pth: the checkpoint, and all else that the next step depends on; then the curves."""
        if utils.rank() > 0:
            return
        self.keep_best(run)
        raw = (
            {name: tensor.cpu() for name, tensor in self.model.state_dict().items()}
            if ema_decay
            else {}
        )
        state = {
            "weights": raw,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "history": self.history,
            "rates": self.rates,
            "skipped": self.skipped,
            "seconds": self.seconds,
            "training_seconds": self.training_seconds,
            "waiting_seconds": self.waiting_seconds,
            "data": self.data.fingerprint(),
            "processes": utils.processes(),
            "launch": launch(),
        }
        utils.save_checkpoint(run / "last.pth", {**self.describe({}), "resume": state})
        if self.history and self.history[-1]["step"] > self.drawn:
            utils.draw_curves(
                run / "curves.png",
                self.history,
                self.rates,
                self.history[self.best_evaluation()]["step"],
            )
            self.drawn = self.history[-1]["step"]

    def load(self, run: Path) -> None:
        """Take up a run where its last.pth stands, if it is the same run."""
        saved = utils.from_first(lambda: utils.load_checkpoint(run / "last.pth"))
        state, now = saved["resume"], constants()
        then = {
            "optimizer": "adamw",
            "patch": 1,
            "augment_strength": 1.0,
            "training_scale": 1.0,
            **saved["constants"],
        }  # the first runs had no such constants
        free = FREE_TO_CHANGE | (set() if lr_schedule == "cosine" else {"training_iterations"})
        changed = [
            f"{name} is {now[name]!r} and was {then.get(name)!r}"
            for name in now
            if name not in free and now[name] != then.get(name)
        ]
        if (before := state.get("processes", 1)) != utils.processes():
            changed.append(f"the number of processes is {utils.processes()} and was {before}")
        if changed:
            raise InputError(
                f"{run} can't go on otherwise than it began: {', '.join(changed)}; give it the same settings, or start a new run"
            )
        if state["data"] != self.data.fingerprint():
            raise InputError(
                f"{run} can't go on: the pictures or masks of {dataset} have changed since; put them back, or start a new run"
            )
        self.judged.load_state_dict(saved["weights"])
        self.model.load_state_dict(state["weights"] or saved["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty where the run was not in fp16
            self.scaler.load_state_dict(state["scaler"])
        self.step, self.history, self.rates, self.skipped = (
            saved["step"],
            state["history"],
            state["rates"],
            state["skipped"],
        )
        self.seconds, self.training_seconds, self.waiting_seconds = (
            state["seconds"],
            state["training_seconds"],
            state.get("waiting_seconds", 0.0),
        )


@torch.no_grad()
def predictions(
    model: nn.Module, split: SegmentationDataset, place: utils.Place, batches: int = 0
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits and masks of this process's share of a split at image_size, batch by batch, in eval mode and without augmentation."""
    model.eval()
    for batch in ordered_batches(split, batch_size, batches, utils.rank(), utils.processes()):
        images, masks = place.put(batch)
        with place.autocast():
            logits = model(images)
        yield logits, masks


@torch.no_grad()
def evaluate(
    model: nn.Module, split: SegmentationDataset, loss_of: utils.Loss, place: utils.Place
) -> dict:
    """Loss, pixel accuracy and mean IoU on eval_iterations batches; and the class that all pixels were taken for, or -1."""
    matrix, totals = (
        utils.ConfusionMatrix(model.num_classes, place.device),
        torch.zeros(2, device=place.device),
    )  # of losses, and of pictures
    for logits, masks in predictions(model, split, place, eval_iterations):
        totals[0] += loss_of(logits, masks) * len(masks)
        totals[1] += len(masks)
        matrix.update(logits.argmax(1), masks)
    utils.add_up(matrix.counts, totals)
    scores = matrix.scores()
    predicted = matrix.counts.sum(dim=0).nonzero().flatten().tolist()
    return {
        "loss": (totals[0] / totals[1]).item(),
        "pixel_accuracy": scores["pixel_accuracy"],
        "mean_iou": scores["mean_iou"],
        "only_class": predicted[0] if len(predicted) == 1 else -1,
    }


@torch.no_grad()
def draw_predictions(
    path: Path,
    model: nn.Module,
    split: SegmentationDataset,
    chosen: Sequence[int],
    place: utils.Place,
    titles: Sequence[str] = (),
) -> None:
    """image | mask | prediction for the chosen pictures of a split; with titles, also where the prediction is wrong."""
    model.eval()
    images, masks = stack([split[i] for i in chosen])
    with place.autocast():
        preds = model(images.to(place.device)).argmax(1).cpu()
    names, colors = split.data.table.names, split.data.table.colors
    rows = []
    for image, mask, pred in zip(images.permute(0, 2, 3, 1).numpy(), masks.numpy(), preds.numpy()):
        rows.append(
            [
                image,
                utils.color_mask(mask, colors),
                utils.color_mask(pred, colors),
                *[utils.errors(image, mask, pred)] * bool(titles),
            ]
        )
    captions = ["image", "mask", "prediction", *["wrong pixels: orange"] * bool(titles)]
    utils.save_picture(
        path, utils.sheet(rows, *utils.legend_of(masks, names, colors), captions, titles)
    )


def watched(split: SegmentationDataset) -> list[int]:
    """The pictures of a split that are drawn along the way, the same ones each time."""
    return np.linspace(0, len(split) - 1, min(4, len(split))).round().astype(int).tolist()


def keep_earlier(run: Path) -> None:
    """A unet_model.pth that no run holds as its best.pth is kept beside the one that will replace it."""
    target = Path("unet_model.pth")
    known = [run / "best.pth", *Path("TrainingOutput").glob("*/best.pth")]
    with suppress(InputError, KeyError, TypeError):  # it may be anybody's file
        known.append(
            Path(utils.load_checkpoint(target)["constants"]["run_dir"] or "nowhere", "best.pth")
        )
    if target.is_file() and not any(
        path.exists() and filecmp.cmp(path, target, shallow=False) for path in known
    ):
        kept = target.with_name(
            f"unet_model-{datetime.fromtimestamp(target.stat().st_mtime):%Y%m%d-%H%M%S}.pth"
        )
        utils.write_atomic(kept, lambda file: file.write(target.read_bytes()))
        print(f"{target} is of no run in TrainingOutput; it is kept as {kept}")


def publish(run: Path) -> None:
    """Make the run's best weights unet_model.pth."""
    utils.write_atomic(
        Path("unet_model.pth"), lambda file: file.write((run / "best.pth").read_bytes())
    )


def weakest(iou: torch.Tensor, names: Sequence[str]) -> str:
    """The two classes of lowest IoU, of those that are there."""
    present = (~iou.isnan()).nonzero().flatten().tolist()
    return ", ".join(
        f"{names[i]} {iou[i]:.2f}" for i in sorted(present, key=lambda i: iou[i].item())[:2]
    )


def judge(
    model: nn.Module, split: SegmentationDataset, place: utils.Place, name: str
) -> tuple[utils.ConfusionMatrix, list[tuple[float, int, str]]]:
    """The whole split, each picture's logits resized to its mask's own size, as published results are counted; and each picture's own mean IoU
    and weakest classes."""
    own = range(utils.rank(), len(split), utils.processes())
    matrix, pictures, each = utils.ConfusionMatrix(model.num_classes, place.device), iter(own), []
    for logits, _ in tqdm(
        predictions(model, split, place),
        f"judging {name}",
        -(-len(own) // batch_size),
        leave=False,
        disable=utils.rank() > 0,
    ):
        for one, i in zip(logits, pictures):
            mask = torch.from_numpy(split.data.read_full_mask(split.rows[i])).to(place.device)
            preds = torch.cat(
                [strip.argmax(1)[0] for strip in utils.upsampled(one[None], *mask.shape)]
            )
            alone = utils.ConfusionMatrix(model.num_classes, place.device)
            alone.update(preds, mask)
            matrix.counts += alone.counts
            scores = alone.scores()
            each.append((scores["mean_iou"], i, weakest(scores["iou"], split.data.table.names)))
    utils.add_up(matrix.counts)
    return matrix, sorted(
        one for part in utils.from_all(each) for one in part if not math.isnan(one[0])
    )


def write_report(run: Path, training: Training) -> None:
    """With the best weights: report.json, the confusion matrix of the last split, and the closing table."""
    training.judged.load_state_dict(
        utils.from_first(lambda: utils.load_checkpoint(run / "best.pth")["weights"])
    )
    names, last, place = training.data.table.names, list(training.splits)[-1], training.place
    judged = {
        name: judge(training.judged, split, place, name) for name, split in training.splits.items()
    }
    if utils.rank() > 0:
        return
    publish(run)
    scores = {name: matrix.report(names) for name, (matrix, _) in judged.items()}
    matrix, ranked = judged[last]
    split, worst = training.splits[last], ranked[:4]
    titles = [
        f"{training.data.pairs[split.rows[i]].image.name}: mean IoU {score:.2f}; weakest: {classes}"
        for score, i, classes in worst
    ]
    if worst:
        draw_predictions(
            run / "worst.png", training.judged, split, [i for _, i, _ in worst], place, titles
        )
    utils.draw_learning(
        run / "learning.png", run / "predictions", image_size, len(watched(training.splits["val"]))
    )
    utils.draw_classes(run / "classes.png", scores[last]["classes"], last)
    utils.draw_learning_rate(run / "learning_rate.png", training.rates)
    utils.draw_confusion(run / "confusion.png", matrix.counts, names, last)
    facts = {
        "seconds": round(training.seconds, 2),
        "images_per_second": round(training.speed(), 2),
        "parameters": count_parameters(training.model),
        "device": str(place.device),
        "precision": place.precision,
        "judged_on": last,
    }
    text = json.dumps({**scores, **facts}, indent=1)
    utils.write_atomic(run / "report.json", lambda file: file.write(text.encode()))
    print(utils.format_report(scores))
    waited = training.waiting_seconds / max(training.training_seconds, 1e-9)
    print(
        f"{training.speed():.1f} images/s in training, of which {waited:.1%} was waiting for pictures"
        + "; raise num_workers" * (waited > 0.1)
    )


def launch() -> str:
    """Names the torchrun that started this process, the same when it starts it again; "" without one."""
    return (
        f"{os.environ['TORCHELASTIC_RUN_ID']} {os.getppid()}"
        if "TORCHELASTIC_RUN_ID" in os.environ
        else ""
    )


def warnings(training: Training) -> dict[str, str]:
    """What is likely to be wrong with a run so far, each with the setting to change."""
    found, data, history, step = {}, training.data, training.history, training.step
    counts = {
        name: data.pixels[rows][:, : len(data.table.names)].sum(axis=0)
        for name, rows in data.splits.items()
    }
    if absent := [
        name
        for i, name in enumerate(data.table.names)
        if not counts["train"][i] and any(count[i] for count in counts.values())
    ]:
        found["absent"] = (
            f"the training split has no pixel of {', '.join(absent)}, which other splits have: it can't be learnt; try another seed, or move pictures"
        )
    steps = range(warmup_steps + 1, training_iterations + 1) if not history else ()
    floor = [later for later in steps if rate_at(later, []) <= min_lr * 1.000001 < base_lr]
    if len(floor) > training_iterations / 2:
        found["floor"] = (
            f"the learning rate is at min_lr from step {floor[0]} of {training_iterations} on; raise decay_factor, or try lr_schedule=cosine"
        )
    tenth = training_iterations // 10
    if step >= tenth >= 20 and len(training.losses) == step:
        first, then = (
            sum(training.losses[part]) / len(training.losses[part])
            for part in (slice(0, tenth // 5), slice(tenth - tenth // 5, tenth))
        )
        if then > 0.98 * first:
            found["still"] = (
                f"the loss has not moved in the first tenth of the run ({first:.3f} to {then:.3f}): raise base_lr, "
                "or look whether masks fit their images (python dataset.py)"
            )
    if training.only_class >= 0 and step > tenth:
        found["single"] = (
            f"every pixel of the validation pictures is taken for {data.table.names[training.only_class]}: nothing else is learnt yet; "
            "train longer, or try class_weights=0.5"
        )
    late = history[-max(3, len(history) // 3) :]
    if len(late) >= 3 and all(row["train_mean_iou"] > row["val_mean_iou"] + 0.2 for row in late):
        found["gap"] = (
            f"training is far above validation (mean IoU {late[-1]['train_mean_iou']:.2f} against {late[-1]['val_mean_iou']:.2f}) since step {late[0]['step']} at "
            "least: the training pictures are learnt by heart; try augment_strength=2, weight_decay=0.1 where it is less, or more pictures"
        )
    return found


def find_run() -> Path | None:
    """The run that resume names, or that torchrun takes up again after a process was killed; or None for a new one."""
    found = sorted(
        Path("TrainingOutput").glob("*/last.pth"),
        key=lambda path: path.stat().st_mtime,
        reverse=True,
    )
    found = [path for path in (Path(run_dir, "last.pth"),) if path.exists()] if run_dir else found
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)):
        for path in found:
            with suppress(InputError):  # it may be anybody's file
                if utils.load_checkpoint(path).get("resume", {}).get("launch") == launch():
                    return path.parent
    if not resume:
        return None
    run = (
        Path(resume)
        if resume not in ("true", True)
        else found[0].parent
        if found
        else Path(run_dir or "TrainingOutput")
    )
    if not (run / "last.pth").exists():
        raise InputError(
            f'resume is {resume!r}, but {run} holds no run that could go on (no last.pth); start one with resume=""'
        )
    return run


def make_run(name: str) -> Path:
    """A new run's folder: run_dir, or one named after the data set and the time."""
    if not run_dir:
        stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
        for ending in (
            "",
            *(f"-{number}" for number in range(2, 100)),
        ):  # another run may have begun in the same second
            with suppress(FileExistsError):
                run = Path("TrainingOutput", stem + ending)
                run.mkdir(parents=True)
                return run
    run = Path(run_dir)
    if any(
        (run / name).exists() for name in ("last.pth", "best.pth", "history.csv", "report.json")
    ):
        raise InputError(
            f"run_dir {run} holds a run already; go on with it by resume={run}, name another, or move it away"
        )
    run.mkdir(parents=True, exist_ok=True)
    return run


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Two runs in one folder would write over each other; the lock goes with the process, however it ends. The first process holds it for all."""
    if utils.rank() > 0:
        yield
        return
    path = run / ".lock"
    with writing(run):
        file = open(path, "w")
    with file:
        try:
            fcntl and fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            raise InputError(
                f"{run} is being written by another run; wait for its end, or name another run_dir"
            ) from error
        except OSError as error:  # some network disks know no locks
            print(
                f"{run} can't be locked ({error.strerror}): see to it yourself that no other run writes there"
            )
        for torn in run.glob(".*.tmp"):  # what a kill left
            torn.unlink()
        yield
    path.unlink(missing_ok=True)


def learn(training: Training, run: Path) -> int:
    """The loop: from where the run stands to its end, or to a signal, whose number it returns."""
    workers = (
        num_workers
        if num_workers >= 0
        else max(1, min(16, utils.cores() - 1))
        if training.place.device.type == "cuda"
        else 0
    )
    batches = training_batches(
        training.stream,
        batch_size,
        training.images_seen(),
        workers,
        utils.rank(),
        utils.processes(),
    )
    bar = tqdm(
        total=training_iterations,
        initial=training.step,
        desc="training",
        unit="step",
        dynamic_ncols=True,
        disable=utils.rank() > 0,
    )
    start, said = time.perf_counter() - training.seconds, set()
    try:
        with bar, signals_caught() as caught:
            while True:
                training.seconds = time.perf_counter() - start
                number = utils.agree(sum(caught))  # all processes stop after the same step
                is_moment = training.step in (0, training_iterations // 10)
                if training.is_due() and not number:
                    bar.write(training.evaluate(run))
                    is_moment = True
                for kind, sentence in warnings(training).items() if is_moment else ():
                    if kind not in said:
                        bar.write(f"warning: {sentence}")
                        said.add(kind)
                if training.step % save_model_interval == 0 or training.is_over() or number:
                    training.save(run)
                if training.is_over() or number:
                    return number
                loss_value = training.take_step(batches)
                skipped = f", {training.skipped} skipped" if training.skipped else ""
                bar.set_postfix_str(
                    f"loss {loss_value:.3f}, lr {training.rates[-1]:.1e}, {training.speed():.1f} images/s{skipped}",
                    refresh=False,
                )
                bar.update()
    finally:
        training.keep_best(run)
        if workers:
            batches._shutdown_workers()  # they leave signals to this process, so that it must end them whatever happened


def main() -> int:
    check_settings()
    place = utils.Place(device, precision)
    with memory_explained(place):
        utils.join_processes(place.device)
        return run_all(place)


def run_all(place: utils.Place) -> int:
    """Data, net, loop, report: the whole run, or what is left of it."""
    run = utils.from_first(find_run)
    data = utils.once_a_machine(lambda: prepare(dataset, data_dir, image_size, cache, seed))
    print(report(data))
    training, is_new = Training(data, place), run is None
    with writing(Path(run_dir or "TrainingOutput")):
        run = run or utils.from_first(lambda: make_run(data.name))
    with locked(run):
        if not is_new:
            training.load(run)
        epochs, several = (
            training_iterations * images_per_step() / len(training.stream),
            f", {utils.processes()} processes" * (utils.processes() > 1),
        )
        smaller = f" of pictures shrunk to {'×'.join(map(str, training_size()[::-1]))}" * (
            training_size() != image_size
        )
        print(
            f"{count_parameters(training.model):,} parameters on {place}{several}; {training_iterations} steps are {epochs:.1f} epochs{smaller}; "
            f"the run's files are in {run}"
            + f"; it goes on after step {training.step}"
            * (not is_new)
        )
        if utils.rank() == 0:
            keep_earlier(run)
            planned = [
                rate_at(step, training.history)
                for step in range(training.step + 1, training_iterations + 1)
            ]
            utils.draw_learning_rate(run / "learning_rate.png", training.rates + planned)
        if number := learn(training, run):
            arguments = [
                argument for argument in sys.argv[1:] if not argument.startswith("resume=")
            ]
            starter = (
                "python"
                if utils.processes() == 1
                else f"torchrun --standalone --nproc_per_node={utils.processes()}"
            )
            print(
                f"stopped after step {training.step}; to go on: {starter} train.py {shlex.join([*arguments, f'resume={run.as_posix()}'])}"
            )
            return 128 + number
        write_report(run, training)
    print(f"weights: unet_model.pth, the best by validation; pictures, curves and report: {run}")
    return 0


if __name__ == "__main__":
    utils.run_script(globals(), main)
