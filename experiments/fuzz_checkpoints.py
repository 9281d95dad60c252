"""Checkpoints that were damaged or forged, given to inference.py and to a run that goes on from
them. Whatever is neither done rightly nor refused in a sentence is printed; the exit status is 1.

    python experiments/fuzz_checkpoints.py [checkpoints=2000] [seed=0] [seconds=0]

A tiny run leaves best.pth and last.pth. Each try spoils one of them: bytes changed, cut off,
doubled, swapped, parts of the archive renamed; or one thing in it becomes something else, under a
digest that fits, under the old one, or without any. What is damaged or under the old digest must be
refused, or give the same masks and the same end of the run, to the bit. What was forged whole must
be refused, or work to its end. A refusal is one sentence that names the file, takes less than a
minute and 4 GiB, and changes nothing. seconds=N stops after N of them; a fault is repeated by its
seed with checkpoints=1. Drawings are left out, for time.
"""

import copy
import io
import math
import os
import random
import reprlib
import resource
import shutil
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "tests"))
from toolbox import cache, plots
from toolbox.digests import Strange, digest_of
from toolbox.muon import make_optimizer
from toolbox.settings import run_script

from conftest import TINY, draw_squares
from test_resume import assert_same
from trying import Tally, fault_of, try_out

import inference
import train
from model import build_model

checkpoints = 2000
seed = 0
seconds = 0  # stop after so many; 0 = when all are tried

MOST = 4 * 2**20  # KiB that a try may take
RUN = {
    **TINY,
    "dataset": "own",
    "eval_iterations": 1,
    "save_model_interval": 100,
    "training_iterations": 6,
    "dropout": 0.1,
    "ema_decay": 0.5,
}


# ---- damage ----


def flip(data: bytearray, chance: random.Random, low: int = 0, high: int = 0) -> bytes:
    """A few bytes between two places are others."""
    for _ in range(chance.randint(1, 12)):
        data[chance.randrange(low, high or len(data))] = chance.randrange(256)
    return bytes(data)


def flip_words(data: bytearray, chance: random.Random) -> bytes:
    """In the pickle, which comes first."""
    return flip(data, chance, 0, min(len(data), data.index(b"data/0") + 64))


def flip_contents(data: bytearray, chance: random.Random) -> bytes:
    """In the archive's table of contents, which comes last."""
    return flip(data, chance, data.index(b"PK\1\2"))


def cut(data: bytearray, chance: random.Random) -> bytes:
    place = chance.choice((0, 1, 4, len(data) - 1, chance.randrange(len(data))))
    return bytes(data[place:] if chance.random() < 0.2 else data[:place])


def part_of(data: bytearray, chance: random.Random) -> slice:
    start, length = chance.randrange(len(data)), chance.randint(1, len(data) // 3)
    return slice(start, start + length)


def double(data: bytearray, chance: random.Random) -> bytes:
    part = part_of(data, chance)
    return bytes(data[: part.stop] + data[part] + data[part.stop :])


def blank(data: bytearray, chance: random.Random) -> bytes:
    """A hole of zeros, as failing disks and broken downloads leave."""
    part = part_of(data, chance)
    return bytes(data[: part.start] + bytes(len(data[part])) + data[part.stop :])


def swap(data: bytearray, chance: random.Random) -> bytes:
    """Two parts in each other's place."""
    length = chance.randint(1, len(data) // 4)
    one, other = sorted(chance.randrange(len(data) - length) for _ in range(2))
    other = max(other, one + length)
    first, second = data[one : one + length], data[other : other + length]
    return bytes(data[:one] + second + data[one + length : other] + first + data[other + length :])


def rename(data: bytearray, chance: random.Random) -> bytes:
    """The archive packed anew, with two of its parts under each other's names, or one under a
    new one, left out or packed tight."""
    new, way = io.BytesIO(), chance.randrange(4)
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as old, zipfile.ZipFile(new, "w") as archive:
        names = old.namelist()
        one, other = chance.sample(names, 2)
        called = {name: name for name in names}
        if way == 0:
            called |= {one: other, other: one}
        elif way == 1:
            called[one] = chance.choice((f"{one}x", "data.pkl", "../x", one.upper()))
        elif way == 2:
            del called[one]
        for name, given in called.items():
            tight = zipfile.ZIP_DEFLATED if way == 3 else zipfile.ZIP_STORED
            archive.writestr(given, old.read(name), tight)
    return new.getvalue()


DAMAGES = (flip, flip, flip_words, flip_words, flip_contents, cut, double, blank, swap, rename)


# ---- forgery ----

PLAIN = [None, True, False, 0, 1, -1, 3, 255, 256, 1000, 65536, 10**9, 10**22, -(10**22), 2**63]
PLAIN += [0.0, -0.0, 0.5, 1e-320, 1e300, -1.5, math.nan, math.inf, -math.inf, 10**500]
PLAIN += [
    "",
    " ",
    "x",
    "4",
    "true",
    "unet++",
    "a" * 5000,
    "\0",
    "\ud800",
    "Größe😀",
    "../x",
    "$\\f$",
]
PLAIN += [[], {}, (), [1], [[1], [2]], {"a": 1}, {1: 2}, (4, 8), [1.5, 2], b"x", {1}, 1j]


def nested(chance: random.Random) -> object:
    value: object = []
    for _ in range(chance.choice((3, 18, 30, 200))):
        value = chance.choice(([value], {"a": value}, [value, value]))
    return value


def like(tensor: torch.Tensor, chance: random.Random) -> object:
    """A tensor of another shape, kind, order or content."""
    with warnings.catch_warnings(action="ignore"):
        if tensor.dtype.is_floating_point and chance.random() < 0.5:
            number = chance.choice((math.nan, math.inf, -1.0, 0.0, 1e38, -1e38, 1e-40))
            changed = tensor.clone(memory_format=torch.contiguous_format)
            changed.view(-1)[chance.randrange(max(1, tensor.numel()))] = number
            return changed
        kinds = (torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool)
        kinds += (torch.complex64,)
        return chance.choice(
            (
                lambda: tensor.to(chance.choice(kinds)),
                lambda: tensor.flatten()[:0],
                lambda: tensor[None],
                lambda: tensor.flatten(),
                lambda: torch.cat([tensor.flatten()] * 2),
                lambda: tensor.to_sparse(),
                lambda: tensor.to("meta"),
                lambda: tensor.flatten()[:1].expand(tensor.shape),
                lambda: tensor.flatten()[:1].expand(10**6, 10**6),
                lambda: torch.empty_strided(tensor.shape, [1] * tensor.ndim).zero_(),
                lambda: tensor.transpose(0, -1).contiguous().transpose(0, -1),
                lambda: torch.nn.Parameter(tensor.float()),
                lambda: tensor.flip(0),
                lambda: tensor * 0,
                lambda: torch.rand_like(tensor.float()),
                lambda: tensor.tolist(),
                lambda: torch.quantize_per_tensor(tensor.float(), 0.1, 0, torch.quint8),
            )
        )()


def another(value: object, chance: random.Random) -> object:
    """Something else in its place."""
    if isinstance(value, torch.Tensor) and value.numel() and value.ndim and chance.random() < 0.7:
        return like(value, chance)
    if type(value) in (int, float) and chance.random() < 0.3:
        return chance.choice((value + 1, value * 2, -value, float(value), value / 7))
    if isinstance(value, list) and value and chance.random() < 0.4:
        return chance.choice((value[::-1], value[:-1], value * 2, tuple(value), [*value, value[0]]))
    if isinstance(value, str) and value and chance.random() < 0.3:
        return chance.choice((value[:-1], value.upper(), value * 2))
    return nested(chance) if chance.random() < 0.05 else copy.deepcopy(chance.choice(PLAIN))


def places(content: object) -> list[tuple]:
    """Every list or dict in it, with a key of it."""
    found = []
    if isinstance(content, (dict, list)):
        keys = list(content) if isinstance(content, dict) else range(len(content))
        for key in keys:
            found += [(content, key), *places(content[key])]
    return found


def place_in(content: dict, chance: random.Random) -> tuple:
    """A dict or list in it, with a key; small entries are as likely as large ones."""
    top = chance.choice(sorted(content))
    inside = places(content[top])
    return chance.choice(inside) if inside and chance.random() < 0.8 else (content, top)


def change(inner: dict | list, key: object, chance: random.Random) -> str:
    """One thing in it is changed, left out or added; says which."""
    way = chance.random()
    if way < 0.1:
        del inner[key]
        return f"without {key!r}"
    if way < 0.2 and isinstance(inner, dict):
        name = chance.choice(("more", 7, "weights", "digest", None, "Größe", f"{key}x", ""))
        inner[name] = another(inner[key], chance)
        return f"with {name!r} beside {key!r}"
    if way < 0.25 and isinstance(inner, dict):
        inner[f"{key}x"] = inner.pop(key)
        return f"{key!r} renamed"
    inner[key] = another(inner[key], chance)
    return f"{key!r} is {reprlib.repr(inner[key])[:80]} now"


def forge(data: bytes, chance: random.Random) -> tuple[bytes, bool, str]:
    """A changed checkpoint; whether it says that it is whole; and what was changed."""
    content = torch.load(io.BytesIO(data), weights_only=True)
    torch.manual_seed(chance.randrange(2**30))
    digest = content.pop("digest")
    place = place_in(content, chance)
    about = change(*place, chance)
    kind = chance.choice(("fresh", "fresh", "old", "none"))
    if kind == "old":
        content["digest"] = digest
    elif kind == "fresh":
        try:
            content["digest"] = digest_of(content, most=2**28)
        except Strange:
            content["digest"] = digest
    memory = io.BytesIO()
    torch.save(content, memory)
    return memory.getvalue(), kind != "old", f"{about}, {kind} digest"


# ---- tries ----


def refusal_fault(status: int | None, words: str, names: Sequence[str]) -> str:
    """What is wrong with how a try ended; a refusal's last line names one of these."""
    last = (words.strip().splitlines() or [""])[-1]
    if status == 1 and not any(name in last for name in names):
        return fault_of(status, words, ["in/p0.png"])  # coloured, one by one, as far as it went
    return fault_of(status, words, names)


class Workplace:
    """A folder with a run that is over, one that was stopped, and pictures to colour."""

    def __init__(self, folder: Path):
        self.folder, self.log = folder, folder / "log"
        draw_squares(folder / "own", 8)
        (folder / "in").mkdir()
        for i in range(2):
            shutil.copy(folder / "own" / "images" / f"p{i}.png", folder / "in")
        for run, settings in (("straight", {}), ("stopped", {"training_iterations": 4})):
            status, words = self.train({**settings, "run_dir": run})
            assert status == 0, words
        self.files = {name: (folder / "stopped" / name).read_bytes() for name in FILES}
        (folder / "whole.pth").write_bytes(self.files["best.pth"])
        status, words = self.color("whole.pth")
        assert status == 0, words
        self.masks = self.colored()

    def inside(self, main: Callable[[], int], module: object, settings: dict) -> Callable[[], int]:
        def work() -> int:
            resource.setrlimit(resource.RLIMIT_DATA, (8 * 2**30, 8 * 2**30))
            os.chdir(self.folder)
            cache.CACHE = self.folder / "cache"
            for name in ("curves", "learning_rate", "classes", "confusion"):
                setattr(plots, f"draw_{name}", lambda *_: None)
            vars(module).update({"device": "cpu", "precision": "fp32", **settings})
            return main()

        return work

    def train(self, settings: dict) -> tuple[int | None, str]:
        return try_out(self.inside(train.main, train, {**RUN, **settings}), self.log)

    def color(self, checkpoint: str, **settings) -> tuple[int | None, str]:
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        where = {"checkpoint": checkpoint, "input_dir": "in", "output_dir": "out"}
        work = self.inside(inference.main, inference, {**where, "overlay": False, **settings})
        return try_out(work, self.log)

    def colored(self) -> dict[str, np.ndarray]:
        masks = {}
        for path in sorted((self.folder / "out").glob("p?.png")):
            with Image.open(path) as mask:
                masks[path.name] = np.array(mask)
        return masks

    # ---- what is wrong ----

    def try_inference(self, content: bytes, is_whole: bool, tile: bool) -> tuple[int | None, str]:
        path = self.folder / "spoilt.pth"
        path.write_bytes(content)
        status, words = self.color("spoilt.pth", tile=tile)
        fault = refusal_fault(status, words, ["spoilt.pth"])
        masks = self.colored()
        if status == 0 and not fault:
            if [mask.shape for mask in masks.values()] != [(16, 16)] * 2:
                fault = "a mask is missing"
            elif not is_whole and not all(map(np.array_equal, masks.values(), self.masks.values())):
                fault = "it gives other masks"
        if status == 1 and not fault and path.read_bytes() != content:
            fault = "the file was changed"
        return status, fault and f"{fault}: {words[-800:]}"

    def try_resuming(self, name: str, content: bytes, is_whole: bool) -> tuple[int | None, str]:
        run = self.folder / "run"
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(self.folder / "stopped", run)
        (run / name).write_bytes(content)
        status, words = self.train({"resume": "run"})
        fault = refusal_fault(status, words, ["last.pth", "best.pth", "run can't go on"])
        if status == 0 and not fault:
            fault = self.difference(run, is_whole)
        if status == 1 and not fault and (run / name).read_bytes() != content:
            fault = "it was refused and yet written over"
        return status, fault and f"{fault}: {words[-800:]}"

    def difference(self, run: Path, is_whole: bool) -> str:
        try:
            if not is_whole:
                assert_same(self.folder / "straight", run)
            elif not (run / "report.json").exists():
                return "it has no report"
        except Exception as error:
            return f"it ended otherwise than the unbroken run ({type(error).__name__} {error})"
        return ""


FILES = ("best.pth", "last.pth")
WAYS = (("best.pth", "inference"), ("best.pth", "inference"), ("last.pth", "inference"))
WAYS += (("last.pth", "resume"), ("last.pth", "resume"), ("last.pth", "resume"))
WAYS += (("best.pth", "resume"),)


def try_one(place: Workplace, number: int, tally: Tally) -> None:
    """What follows from its number alone: a file, how it is spoilt, and what is done with it."""
    chance = random.Random(number)
    name, use = chance.choice(WAYS)
    if chance.random() < 0.4:
        spoil = chance.choice(DAMAGES)
        about, is_whole = spoil.__name__, False
        content = spoil(bytearray(place.files[name]), chance)
    else:
        content, is_whole, about = forge(place.files[name], chance)
    if use == "inference":
        status, fault = place.try_inference(content, is_whole, tile=chance.random() < 0.2)
    else:
        status, fault = place.try_resuming(name, content, is_whole)
    if not fault and resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss > MOST:
        fault = "it took too much memory"
    tally.add(status, fault, f"seed={number}: {name} for {use}, {about}")


def main() -> int:
    make_optimizer("muon", build_model("unet", num_classes=2, features=[4]), 0.1, 0.1)  # imports
    began, tally = time.monotonic(), Tally()
    with tempfile.TemporaryDirectory() as name:
        place = Workplace(Path(name))
        for number in range(seed, seed + checkpoints):
            if seconds and time.monotonic() - began > seconds:
                break
            try_one(place, number, tally)
    took = f"{time.monotonic() - began:.0f} s"
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"{tally.count()} checkpoints in {took}, peak memory {peak:.2f} GiB: {tally}")
    print("\n".join(tally.faults))
    return 1 if tally.faults else 0


if __name__ == "__main__":
    run_script(globals(), main)
