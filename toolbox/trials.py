"""A run tried out: what it takes to start, a step, an evaluation and the end, on this machine.

train is the module of train.py, handed in.
"""

import copy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from toolbox.choosing import BATCH, FIRST_VIEWS
from toolbox.keeping import Run
from toolbox.machine import Place
from toolbox.memory import most_held, release_memory
from toolbox.recipe_writing import Trial
from toolbox.settings import settings_of

import numpy as np
import torch

TRYING = 8.0  # seconds of steps that the prediction is made from
PLOTS = 5.0  # seconds, at the end: curves, matrix and what else is plotted
FIRST_SIZE = (96, 96)  # small enough for a try in seconds
WARM = 2  # steps that are not counted: the first ones compile, or ask for memory


def now(place: Place) -> float:
    """The time, once the device has done all that it was given."""
    if place.device.type == "cuda":
        torch.cuda.synchronize()
    if place.device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


@contextmanager
def constants_of(train: ModuleType, constants: dict) -> Iterator[None]:
    """train.py with other constants, for a while."""
    before = settings_of(vars(train))
    vars(train).update(constants)
    try:
        yield
    finally:
        vars(train).update(before)


def seconds_to_import(train: ModuleType) -> float:
    """What passes before train.py does anything."""
    command = [sys.executable, "-c", "import train, albumentations"]
    began = time.perf_counter()
    subprocess.run(command, cwd=Path(train.__file__).parent, check=True)
    return time.perf_counter() - began


def difficulty(train: ModuleType, constants: dict, place: Place) -> float:
    """What a small net on small pictures lacks in mean IoU, on those that it has just seen."""
    first = {"image_size": FIRST_SIZE, "crop_size": (0, 0), "training_scale": 1.0, "patch": 1}
    first |= {"features": (16, 32, 64), "augment": "flip", "lr_schedule": "cosine"}
    first |= {"batch_size": BATCH, "training_iterations": FIRST_VIEWS // BATCH, "warmup_steps": 20}
    with constants_of(train, {**constants, **first}):
        names = ("dataset", "data_dir", "image_size", "cache", "seed")
        data = train.prepare(*[getattr(train, name) for name in names])
        training = train.Training(data, place)
        workers = place.workers(constants["num_workers"])
        batches = train.training_batches(training.stream, BATCH, 0, workers)
        for _ in range(train.training_iterations):
            training.take_step(batches)
        split = training.splits["train"]
        found = train.quick_scores(training.kept, split, training.loss_of, place)
    return 1 - found["mean_iou"]


def few_of(split, sizes: np.ndarray):
    """Four of a split's pictures: the largest, and others of all sizes."""
    by_size = sorted(split.rows, key=lambda row: sizes[row].prod())
    part = copy.copy(split)
    chosen = np.linspace(0, len(by_size) - 1, min(4, len(by_size))).round().astype(int)
    part.rows = [by_size[i] for i in chosen]
    return part


def seconds_of_judging(train: ModuleType, training: Run, place: Place) -> float:
    """All pictures of all splits, reckoned from a few: what the net takes by their number, what
    reading and enlarging take by their pixels."""
    release_memory()  # as a run does at its end
    sizes = training.data.sizes
    total = 0.0
    for split in training.splits.values():
        part = few_of(split, sizes)
        train.judge(training.kept, part, place)  # once to get going
        began = now(place)
        train.judge(training.kept, part, place)
        whole, began = now(place) - began, now(place)
        for _ in train.predictions(training.kept, part, place):
            pass
        of_net = min(whole, now(place) - began)
        pixels = [sizes[rows].prod(axis=1).sum() for rows in (split.rows, part.rows)]
        total += of_net * len(split) / len(part) + (whole - of_net) * pixels[0] / pixels[1]
    return total


def seconds_of_evaluation(
    train: ModuleType, training: Run, place: Place
) -> tuple[float, float, float]:
    """For each picture that is looked at; for the sheet that is drawn of it; and for a save."""
    most = train.eval_iterations * train.batch_size
    looked_at = sum(min(len(training.splits[name]), most) for name in ("train", "val"))
    with tempfile.TemporaryDirectory() as folder:
        training.folder = Path(folder)
        began = now(place)
        training.evaluate()
        whole, began = now(place) - began, now(place)
        training.show()
        sheet = now(place) - began
        training.best = None  # else it would be published
        training.save()  # once to get going
        began, training.drawn = now(place), 0
        training.save()
        saving = now(place) - began
    return max(0.0, whole - sheet) / looked_at, sheet, saving


def try_out(train: ModuleType, constants: dict, place: Place) -> Trial:
    """Some steps, an evaluation and some judging, as train.py does them."""
    with constants_of(train, constants):
        names = ("dataset", "data_dir", "image_size", "cache", "seed")
        wanted = [constants[name] for name in names]
        train.prepare(*wanted)  # keeps the pictures at their size
        began = now(place)
        data = train.prepare(*wanted)
        training = train.Training(data, place)
        workers = place.workers(constants["num_workers"])
        batches = train.training_batches(training.stream, constants["batch_size"], 0, workers)
        start = now(place) - began
        warming = now(place)
        for _ in range(WARM):
            training.take_step(batches)
        for _ in range(4 * workers):  # what they have read meanwhile
            next(batches)
        warming = now(place) - warming
        times: list[float] = []
        while len(times) < 3 or (sum(times) < TRYING and len(times) < 300):
            began = now(place)
            training.take_step(batches)
            times.append(now(place) - began)
        step = statistics.mean(times)
        look, sheet, saving = seconds_of_evaluation(train, training, place)
        end = seconds_of_judging(train, training, place) + 6 * sheet + PLOTS  # and as much as six
        start += max(0.0, warming - WARM * step)
        drawing = sheet + 1.5 * saving  # the best weights too
        return Trial(start, step, look, drawing, end, most_held(place.device))
