"""A recipe for a data set, from its pictures and this machine's speed, with a reason for each line.

    python plan.py dataset=mine minutes=30        writes recipes/mine.py
    python train.py recipes/mine.py               trains by it, in about so many minutes

It looks at the masks (sizes, how thick things are, what is lost where they are shrunk, whether up
and down are alike), times the step of some nets here, chooses, and tries out what it chose. The
recipe is a file of constants as all others are: read it, and change what you know better.
"""

import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from datetime import date
from pathlib import Path

from toolbox import cache, choosing
from toolbox.errors import InputError, is_out_of_memory, memory_explained
from toolbox.files import check_writable, write_text
from toolbox.machine import Machinery, Place
from toolbox.memory import held_to, release_memory
from toolbox.muon import make_optimizer
from toolbox.planning import Plan, make_plan
from toolbox.processes import cores, processes
from toolbox.recipe_writing import Trial, expectation, recipe_path, recipe_text, set_steps
from toolbox.settings import check, check_value, read_constants, run_script
from toolbox.traits import Traits, find_traits
from toolbox.trials import FIRST_SIZE, difficulty, now, seconds_to_import, try_out

import torch

import train
from dataset import prepare
from model import build_model
from utils import make_loss

dataset = "streets"  # as in train.py: a name, or a folder of your own
data_dir = "Dataset"  # where named data sets lie
minutes = 30.0  # from train.py's start to its end, judging included
seed = 0  # of the run: split, start, order and augmentation
device = "auto"  # auto, cpu, cuda, cuda:1, mps
precision = "auto"  # fp32, bf16, fp16; auto: bf16 where the chip has it, else fp16 on GPUs

BYTES = 4  # of a pixel and its class, in the cache
ROOM = 0.7  # share of the memory that a trial may take: hours of drawing and judging take more


def seconds_of_step(place: Place, classes: int, features, patch: int, size) -> float:
    """A step on noise: the least of some, as other programs only ever add."""
    model = place.settle(build_model("unet", num_classes=classes, features=features, patch=patch))
    optimizer = make_optimizer("muon", model, 0.01, 0.1)
    machine = Machinery(model, optimizer, place, compile_model=False)
    loss_of = make_loss("ce+dice")
    batch = choosing.BATCH
    images = torch.randint(256, (batch, 3, *size), dtype=torch.uint8)
    masks = torch.randint(classes, (batch, *size), dtype=torch.uint8)
    times: list[float] = []
    while len(times) < 3 or (sum(times) < 0.6 and len(times) < 20):
        began = now(place)
        placed, target = place.put((images, masks), machine.layout)
        machine.backward(loss_of(machine.logits(placed, is_last=True), target))
        machine.clip(1.0)
        machine.update()
        times.append(now(place) - began)
    return min(times[1:])


def pace_here(place: Place, classes: int, side: int, most: float) -> choosing.Pace:
    """How fast this machine is; a net without room in its memory takes for ever."""

    def measure(features, patch: int, size) -> float:
        try:
            with held_to(ROOM, place.device):
                return seconds_of_step(place, classes, features, patch, size)
        except (RuntimeError, MemoryError) as problem:
            if not is_out_of_memory(problem):
                raise
            return 1e9

    largest = 192 if place.device.type == "cpu" else 768  # GPUs do small ones in no time
    return choosing.Pace(measure, min(largest, max(32, side)), most)


def room_on_disk() -> float:
    """Pixels of pictures and masks that may be kept in the cache: half of what is free."""
    folder = next(path for path in (cache.CACHE, *cache.CACHE.parents) if path.exists())
    return shutil.disk_usage(folder).free / 2 / BYTES


# ---- what fits ----


def try_once(work: Callable, constants: dict, folder: Path):
    """What work gives for train.py with these constants, the cache being in a folder; None: there
    was no room."""
    cache.CACHE = folder
    place = Place(constants["device"], constants["precision"])
    try:
        with held_to(ROOM, place.device):
            return work(train, constants, place)
    except Exception as problem:
        if is_out_of_memory(problem):
            return None
        raise


def try_alone(work: Callable, constants: dict):
    """In a process of its own, whose memory is as fresh as train.py's will be, and which the system
    may end where there is too little."""
    release_memory()  # it is room for that process
    fresh = multiprocessing.get_context("spawn")
    with suppress(BrokenProcessPool), ProcessPoolExecutor(1, mp_context=fresh) as process:
        return process.submit(try_once, work, constants, cache.CACHE).result()
    return None


def try_until_it_fits(constants: dict) -> Trial | None:
    """Halve the micro-batches until a step has room, with some to spare; None: it never has. Batch
    norm can't do with one picture: another one's light would be wrong for it."""
    while not (trial := try_alone(try_out, constants)):
        if constants["batch_size"] <= 2:
            return None
        constants["batch_size"] //= 2
        constants["accum_steps"] *= 2
    return trial


def plan_that_fits(
    constants: dict, place: Place, traits: Traits, pace: choosing.Pace, seconds: float
) -> tuple[Plan, choosing.Candidate, Trial]:
    """The best that this machine has memory for."""
    while best := choosing.best_candidate(traits, pace, seconds):
        plan = make_plan(traits, best)
        chosen = {**constants, **plan.constants, "crop_size": best.crop_size}
        check(chosen)
        trial = try_until_it_fits(chosen)
        if trial:
            constants.update(chosen)
            return plan, best, trial
        pace.room = 0.7 * best.trained[0] * best.trained[1]
    raise InputError(
        f"{place} has too little memory to train on pictures of {traits.shape}, however small they "
        "are made; close other programs, or take another machine"
    )


def main() -> None:
    check_value("minutes", minutes)
    if processes() > 1:
        raise InputError("plan.py runs in one process; start it without torchrun")
    check_writable(Path("recipes"))
    place = Place(device, precision)
    own = {"dataset": dataset, "data_dir": data_dir, "seed": seed}
    for name, value in (("device", device), ("precision", precision)):
        if value != "auto":
            own[name] = value
    constants = read_constants() | own
    data = prepare(dataset, data_dir, FIRST_SIZE, constants["cache"], seed)
    traits = find_traits(data)
    print("timing some nets and sizes here, and trying out the best: about a minute", flush=True)
    pace = pace_here(
        place, len(data.table.names), max(traits.shape), room_on_disk() / len(data.pairs)
    )
    constants.update(batch_size=choosing.BATCH, accum_steps=1)
    constants["eval_iterations"] = constants["eval_iterations"] or 16
    seconds = 60 * minutes / max(1, constants["folds"])
    with memory_explained(str(place), constants):
        lacking = try_alone(difficulty, constants)
        traits.difficulty = traits.difficulty if lacking is None else lacking
        plan, best, trial = plan_that_fits(constants, place, traits, pace, 0.85 * seconds)
        later = choosing.best_candidate(traits, pace, 1.7 * seconds)
    counts = [len(data.splits[name]) for name in ("train", "val")]
    set_steps(plan, constants, trial, seconds - seconds_to_import(train), counts, best.part)
    path = recipe_path(data.name)
    title = f"{data.name} in {minutes:g} min, planned on {date.today()} for {place}"
    several = "" if cores() == 1 else "s"
    write_text(path, recipe_text(plan, own, f"{title}, {cores()} core{several}."))
    print(expectation(plan, trial, minutes, traits.pictures, choosing.differs(best, later)))
    print(f"written: {path.as_posix()}; to train by it: python train.py {path.as_posix()}")


if __name__ == "__main__":
    run_script(globals(), main)
