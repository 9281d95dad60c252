"""What experiments/benchmark.py measures with: things timed in turn, the work that a net does, data
sets made for it, and train.py run for a few steps."""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from toolbox.errors import InputError
from toolbox.machine import Place

import cv2
import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent

Times = dict[str, list[float]]


# ---- seconds ----


def time_in_turn(things: dict[str, Callable], rounds: int) -> Times:
    """Seconds of each thing, one after the other, again and again, so that a slow moment of the
    machine meets all of them."""
    for thing in things.values():
        thing()  # compiling, tuning and filling of caches
    times: Times = {name: [] for name in things}
    for _ in range(rounds):
        for name, thing in things.items():
            synchronize()
            began = time.perf_counter()
            thing()
            synchronize()
            times[name].append(time.perf_counter() - began)
    return times


def synchronize() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def spread(values: list[float]) -> dict:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def compare(times: Times, ours: str) -> dict:
    """The spread of each thing, and how many times as fast ours is as each other: the median of the
    rounds' ratios, with spread."""
    ratios = {}
    for name, values in times.items():
        if name != ours:
            ratios[name] = spread([other / own for own, other in zip(times[ours], values)])
    seconds = {name: spread(values) for name, values in times.items()}
    return {"seconds": seconds, "times as fast as": ratios}


def show(title: str, found: dict) -> None:
    """One line for each thing that was timed, and one for each ratio."""
    print(title)
    for name, values in found["seconds"].items():
        least, middle, most = (1000 * values[key] for key in ("least", "median", "most"))
        print(f"    {name:<28} {middle:10.1f} ms  ({least:.1f} to {most:.1f})")
    for name, values in found["times as fast as"].items():
        least, middle, most = (values[key] for key in ("least", "median", "most"))
        print(f"    ours against {name:<15} {middle:10.2f} times  ({least:.2f} to {most:.2f})")
    for name in found:
        if name not in ("seconds", "times as fast as"):
            print(f"    {name:<28} {found[name]:10.3g}")
    sys.stdout.flush()


def show_spreads(title: str, found: dict, digits: int) -> None:
    print(title)
    for name, values in found.items():
        least, middle, most = (f"{values[key]:.{digits}f}" for key in ("least", "median", "most"))
        print(f"    {name:<36} {middle:>10}  ({least} to {most})")
    sys.stdout.flush()


# ---- work ----


class ByteCounter(TorchDispatchMode):
    """Bytes that operators read and write, each by itself; what fusing them or a cache saves is
    saved from these."""

    total = 0

    def __torch_dispatch__(self, function, _, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            for thing in tree_leaves((args, kwargs, result)):
                if isinstance(thing, torch.Tensor):
                    self.total += thing.nbytes
        return result


def count_work(model: nn.Module, images: torch.Tensor, backward: bool) -> tuple[int, int]:
    """FLOP and bytes of a forward pass, or of forward and backward."""
    with FlopCounterMode(display=False) as flop, ByteCounter() as counter:
        logits = model(images)
        if backward:
            logits.sum().backward()
    return flop.get_total_flops(), counter.total


def add_share(found: dict, results: dict, place: Place, flop: int, size: int) -> None:
    """The work, the seconds that it would take at the machine's rates, and how much of the matrix
    rate ours reaches."""
    found |= {"GFLOP": flop / 1e9, "GB read and written in fp32": size / 1e9}
    if "floor" in results:
        floor = results["floor"]
        rate = floor[f"matrix rate {place.precision}, GFLOP/s"]["median"] * 1e9
        copies = floor["copy rate, GB/s read and written"]["median"] * 1e9
        found["ms at the matrix rate"] = flop / rate * 1000
        found["ms at the copy rate"] = size / copies * 1000
        found["share of the matrix rate"] = flop / found["seconds"]["ours"]["median"] / rate


# ---- made-up data ----


def make_pairs(
    folder: Path, width: int, height: int, classes: int, endings: tuple[str, str], count: int
) -> Path:
    """Soft shapes with a little noise, which compress about as photographs do, as images/ and
    masks/ of one stem."""
    rng = np.random.default_rng(0)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        rough = rng.integers(0, 256, (height // 64, width // 64, 3)).astype(np.uint8)
        image = cv2.resize(rough, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
        image = image + rng.normal(0, 4, (height, width, 1)).astype(np.int16)
        rough = rng.integers(0, classes, (height // 16, width // 16)).astype(np.uint8)
        mask = cv2.resize(rough, (width, height), interpolation=cv2.INTER_NEAREST)
        image_path = folder / "images" / f"p{i}{endings[0]}"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(image_path, quality=92)
        Image.fromarray(mask).save(folder / "masks" / f"p{i}{endings[1]}")
    rows = ["id,name,red,green,blue"]
    for i in range(classes):
        rows.append(f"{i},class{i},{i * 67 % 256},{i * 131 % 256},{i * 197 % 256}")
    (folder / "classes.csv").write_text("\n".join(rows) + "\n")
    return folder


# ---- train.py in processes of its own ----

# Runs train.py as the command line does, and ends it after so many steps, whose speed and share of
# waiting it prints.
FEW_STEPS = """
import os, sys
sys.path.insert(0, {root!r})
import train
from toolbox import processes, settings
take = train.Training.take_step
def take_some(training, batches):
    loss, clock = take(training, batches), training.clock
    if training.step == {warm}:  # the loop adds this step's own time to the first and not the last
        clock.training_seconds = clock.waiting_seconds = 0.0
    if training.step == {warm} + {steps} or {steps} == 0:
        if processes.is_first():
            speed = 0
            if {steps}:
                speed = {steps} * training.images_per_step() / clock.training_seconds
            print("speed", speed, clock.waited(), file=sys.stderr)
        sys.stderr.flush()
        os._exit(0)
    return loss
train.Training.take_step = take_some
settings.run_script(vars(train), train.main)
"""

# Times how long it takes to add up the gradients of the paper's net over all processes.
ALL_REDUCE = """
import sys, time
sys.path.insert(0, {root!r})
import torch
from toolbox import processes
from toolbox.machine import Place
place = Place({device!r}, "fp32")
processes.join_processes(place.device)
gradients, seconds = torch.ones(31_000_000, device=place.device), []
for _ in range({repeats} + 1):
    began = time.perf_counter()
    processes.add_up(gradients)
    gradients[0].item()
    seconds.append(time.perf_counter() - began)
if processes.is_first():
    print("seconds", *seconds[1:])
torch.distributed.destroy_process_group()
"""


def python(count: int) -> list[str]:
    """The command for so many processes."""
    if count == 1:
        return [sys.executable]
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    return [sys.executable, "-m", *torchrun]


def run(command: Sequence, folder: Path) -> str:
    """What a command says on its standard error, where train.py ends by itself."""
    done = subprocess.run(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    if done.returncode:
        raise InputError(f"train.py failed: {done.stderr[-2000:]}")
    return done.stderr


def run_steps(folder: Path, steps: int, count: int, *arguments: str) -> tuple[float, float, float]:
    """Seconds until the end, images/s and share of waiting of so many steps of train.py on `count`
    processes that share the cores."""
    program = folder / "few.py"
    program.write_text(FEW_STEPS.format(root=str(ROOT), steps=steps, warm=5 if steps else 0))
    began = time.perf_counter()
    chosen = [f"data_dir={ROOT / 'Dataset'}", "training_scale=1", *arguments]
    said = run([*python(count), program, *chosen], folder)
    seconds = time.perf_counter() - began
    speed, waiting = said.split("speed ")[1].split()[:2]
    return seconds, float(speed), float(waiting)


def all_reduce(folder: Path, count: int, device: str, repeats: int) -> list[float]:
    """Seconds in which `count` processes add up 124 MB of gradients."""
    program = folder / "reduce.py"
    program.write_text(ALL_REDUCE.format(root=str(ROOT), device=device, repeats=repeats))
    command = [*python(count), program]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return [float(value) for value in done.stdout.split("seconds")[1].split()]
