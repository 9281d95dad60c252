"""A recipe for a data set, from its pictures and this machine's speed, with a reason for each line.

    python plan.py dataset=mine minutes=30        writes recipes/mine.py
    python train.py recipes/mine.py               trains by it, in about so many minutes

It traits at the masks (sizes, how thick things are, what is lost where they are shrunk, whether up
and down are alike), times the step here, and chooses. The recipe is a file of constants as all
others are: read it, change what you know better.
"""

import copy
import shutil
import statistics
import time
from pathlib import Path

from toolbox import choosing, planning
from toolbox.cache import CACHE
from toolbox.errors import InputError, is_out_of_memory
from toolbox.files import own_path, write_text
from toolbox.machine import Machinery, Place
from toolbox.memory import held_to
from toolbox.muon import make_optimizer
from toolbox.planned import Trial, expectation, recipe_text, set_steps
from toolbox.settings import check, read_constants, run_script
from toolbox.traits import find_traits

import torch

import train
from dataset import prepare, training_batches
from model import build_model
from utils import make_loss

dataset = "streets"  # as in train.py: a name, or a folder of your own
data_dir = "Dataset"  # where named data sets lie
minutes = 30.0  # from train.py's start to its end, judging included
seed = 0  # of the run: split, start, order and augmentation
device = "auto"  # auto, cpu, cuda, cuda:1, mps
precision = "auto"  # fp32, bf16, fp16; auto: bf16 where the chip has it, else fp16 on GPUs

BYTES = 4  # of a pixel and its class
ROOM = 0.85  # share of the memory that a trial may take, so that the run has some to spare
TRIAL = 8.0  # seconds of steps that the prediction is made from


def wait_for(place: Place) -> float:
    """The time, once the device has done all that it was given."""
    if place.device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of_step(place: Place, classes: int, features, patch: int, size) -> float:
    """A step on noise: the least of some, as other programs only ever add."""
    model = place.settle(build_model("unet", num_classes=classes, features=features, patch=patch))
    optimizer = make_optimizer("muon", model, 0.01, 0.1)
    machine = Machinery(model, optimizer, place, compile_model=False)
    loss_of = make_loss("ce+dice")
    batch = choosing.BATCH
    images = torch.randint(256, (batch, 3, *size), dtype=torch.uint8)
    masks = torch.randint(classes, (batch, *size), dtype=torch.uint8)
    times = []
    while len(times) < 3 or (sum(times) < 0.6 and len(times) < 20):
        began = wait_for(place)
        placed, target = place.put((images, masks), machine.layout)
        machine.backward(loss_of(machine.logits(placed, is_last=True), target))
        machine.clip(1.0)
        machine.update()
        times.append(wait_for(place) - began)
    return min(times[1:])


def try_out(constants: dict, place: Place) -> Trial:
    """Some steps, an evaluation and some judging, as train.py does them."""
    vars(train).update(constants)
    names = ("dataset", "data_dir", "image_size", "cache", "seed")
    data = prepare(*(constants[name] for name in names))
    training = train.Training(data, place)
    batches = training_batches(
        training.stream, constants["batch_size"], 0, place.workers(constants["num_workers"])
    )
    times: list[float] = []
    while len(times) < 4 or (sum(times) < TRIAL and len(times) < 200):
        began = wait_for(place)
        training.take_step(batches)
        times.append(wait_for(place) - began)
    judged, seconds = {}, {}
    for name, split in training.splits.items():
        part = copy.copy(split)
        part.rows = split.rows[:4]
        began = wait_for(place)
        train.judge(training.kept, part, place)
        seconds[name] = (wait_for(place) - began) / len(part.rows)
        judged[name] = len(split)
    began = wait_for(place)
    train.quick_scores(training.kept, training.splits["val"], training.loss_of, place)
    evaluation = 2 * (wait_for(place) - began)
    judging = sum(seconds[name] * count for name, count in judged.items())
    return Trial(statistics.mean(times[2:]), evaluation, judging, len(data.splits["train"]))


def try_until_it_fits(constants: dict, place: Place) -> Trial:
    """Halve the micro-batches until a step has room, with some to spare."""
    while True:
        try:
            with held_to(ROOM):
                return try_out(constants, place)
        except (RuntimeError, MemoryError) as problem:
            if not is_out_of_memory(problem):
                raise
            if constants["batch_size"] == 1:
                raise InputError(
                    "not even one picture at a time has room in the memory of this machine"
                ) from problem
        constants["batch_size"] //= 2
        constants["accum_steps"] *= 2


def room_on_disk() -> float:
    """Pixels of pictures and masks that may be kept in the cache: half of what is free."""
    folder = next(path for path in (CACHE, *CACHE.parents) if path.exists())
    return shutil.disk_usage(folder).free / 2 / BYTES


def recipe_path(name: str) -> Path:
    """recipes/NAME.py, or NAME-2.py and so on: what is there may have been edited."""
    return own_path(Path("recipes", f"{name}.py"), lambda path: False)


def main() -> None:
    started = time.process_time()  # imports, which train.py has too
    place = Place(device, precision)
    data = prepare(dataset, data_dir, (64, 64), cache=False, seed=seed)
    traits = find_traits(data)
    classes = len(data.table.names)
    most = room_on_disk() / len(data.pairs)
    pace = choosing.Pace(
        lambda *net: seconds_of_step(place, classes, *net), max(traits.shape), most
    )
    planned, best = planning.make_plan(traits, pace, 0.8 * 60 * minutes, minutes)
    constants = read_constants()
    constants.update(dataset=dataset, data_dir=data_dir, seed=seed)
    constants.update(device=device, precision=precision, **planned.constants)
    check(constants)
    trial = try_until_it_fits(constants, place)
    set_steps(planned, constants, trial, 60 * minutes - started)
    path = recipe_path(data.name)
    own = {"dataset": dataset, "data_dir": data_dir, "seed": seed}
    write_text(path, recipe_text(planned, own, data, place, minutes))
    later = choosing.best_candidate(traits, pace, 2 * 0.8 * 60 * minutes)
    print(expectation(planned, trial, traits, minutes, choosing.differs(best, later)))
    print(f"python train.py {path.as_posix()}")


if __name__ == "__main__":
    run_script(globals(), main)
