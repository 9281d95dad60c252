"""Rough treatment: kill training at random moments, feed damaged pictures, fill the disk. Whatever
breaks is printed, and the exit status is 1.

    python experiments/soak.py [kills=200] [pictures=5000] [fills=10] [strangers=200] [seed=0]

(a) kills: a training process is killed by SIGKILL after a random time and taken up again, until its
    run is over; then the next run starts. Each run must end as one that was never killed, to the
    bit, and last.pth must be readable after every kill. The cache is removed before each run.
(b) pictures: good pictures of eight formats are damaged (bytes changed, cut off, doubled, taken
    from elsewhere) and given to inference.
(c) fills: a small file system is filled while checkpoints are written; what was there must stay
    readable, and the run must go on to the same end.
(d) strangers: so many kills of every command in a folder full of somebody else's files, whose names
    are like a run's own; each of their bytes must stay as it was.
"""

import contextlib
import io
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "tests"))
from toolbox import cache
from toolbox.errors import InputError
from toolbox.settings import run_script

from conftest import TINY, draw_squares
from strangers import soak_strangers
from test_resume import assert_same
from trying import in_child, wait

import inference
import train
from utils import load_checkpoint

kills = 200
pictures = 5000
fills = 10
strangers = 200
seed = 0

RUN = {
    **TINY,
    "training_iterations": 40,
    "eval_interval": 8,
    "save_model_interval": 1,
    "features": (16, 32),
    "image_size": (32, 32),
    "dropout": 0.1,
}


def run_training(
    folder: Path, run: str, log: Path, workers: int = 0, limit: float = 600
) -> int | None:
    """Start the run, or take it up; in the child, constants are set as the command line does."""

    def work() -> int:
        os.chdir(folder)
        cache.CACHE = folder / "cache"
        goes_on = (folder / run / "last.pth").exists()
        own = {"dataset": "own", "run_dir": run, "num_workers": workers}
        vars(train).update({**RUN, **own, "resume": run if goes_on else ""})
        return train.main()

    return wait(in_child(work, log), limit)


def difference(straight: Path, run: Path) -> str:
    """How a run ended otherwise than the unbroken one, or nothing."""
    try:
        assert_same(straight, run)
    except Exception as error:  # a missing or torn file is a difference too
        return f"{run} ended otherwise than the unbroken run: {type(error).__name__} {error}"
    return ""


def unfinished(folder: Path) -> set[Path]:
    """What a kill inside a save or a cache write leaves: files and folders that were not put in
    place."""
    return {*folder.rglob(".*.tmp"), *(folder / "cache").glob(".unfinished-cache-*")}


def soak_kills(folder: Path, chance: random.Random) -> list[str]:
    draw_squares(folder / "own", 40, size=(160, 160))
    began = time.time()
    assert run_training(folder, "straight", folder / "log") == 0, (folder / "log").read_text()
    whole = time.time() - began
    found, killed, inside, runs = [], 0, 0, 0
    while killed < kills:
        run = f"run{runs}"
        runs += 1
        shutil.rmtree(folder / "cache", ignore_errors=True)
        for _ in range(1000):
            before = unfinished(folder)
            status = run_training(
                folder,
                run,
                folder / "log",
                workers=chance.choice((0, 0, 0, 1)),
                limit=chance.uniform(0, whole / 4) if killed < kills else 600,
            )
            if status == 0:
                break
            if status is not None:
                found.append(f"{run}: exit status {status}: {(folder / 'log').read_text()[-600:]}")
                break
            killed += 1
            inside += bool(unfinished(folder) - before)
            if (folder / run / "last.pth").exists():
                with contextlib.suppress(InputError):
                    load_checkpoint(folder / run / "last.pth")
                    continue
                found.append(f"{run}: last.pth can't be read after kill {killed}")
        if fault := difference(folder / "straight", folder / run):
            found.append(f"killed and taken up: {fault}")
        if left := [*(folder / run).glob(".*")]:
            found.append(f"{run} is over, but {left} lie about")
    inside = f"{inside} of them inside a save or a cache write"
    print(f"(a) {killed} kills, {inside}, over {runs} runs; {len(found)} faults")
    return found


def damage(content: bytes, other: bytes, chance: random.Random) -> bytes:
    """One of five ways to spoil a file."""
    data = bytearray(content)
    way = chance.randrange(5)
    if way == 0:
        return bytes(data[: chance.randrange(len(data))])
    if way in (1, 2):  # a few bytes anywhere, or in the header, where sizes and kinds stand
        for _ in range(chance.randint(1, 12)):
            reach = len(data) if way == 1 else min(64, len(data))
            place, value = chance.randrange(reach), chance.randrange(256)
            data[place] = value
        return bytes(data)
    start, length = chance.randrange(len(data)), chance.randint(1, len(data) // 3)
    part = slice(start, start + length)
    middle = data[part] * 2 if way == 3 else other[part]
    return bytes(data[:start] + middle + data[start + length :])


KINDS = "png RGB, jpeg RGB, gif P, tiff RGB, bmp RGB, webp RGB, png P, png I;16, jpeg CMYK"
KINDS += ", ppm RGB, png RGBA, jpeg L"


def good_pictures() -> list[tuple[bytes, str]]:
    """Files and their endings."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 24, 30, 3)).astype(np.uint8)
    good = []
    for pixels, words in zip(noise, KINDS.split(", ")):
        kind, mode = words.split()
        picture = Image.fromarray(pixels).resize((120, 96), Image.Resampling.BICUBIC)
        if mode == "I;16":
            picture = picture.convert("L").convert("I")
        memory = io.BytesIO()
        picture.convert(mode).save(memory, kind)
        good.append((memory.getvalue(), kind))
    return good


def soak_pictures(folder: Path, chance: random.Random) -> list[str]:
    good = good_pictures()
    found, coloured, refused, slowest, fed = [], 0, 0, 0.0, 0
    while fed < pictures:
        shutil.rmtree(folder / "in", ignore_errors=True)
        shutil.rmtree(folder / "out", ignore_errors=True)
        (folder / "in").mkdir()
        batch = min(100, pictures - fed)
        for i in range(batch):
            (content, kind), (other, _) = chance.choice(good), chance.choice(good)
            (folder / "in" / f"p{i:03d}.{kind}").write_bytes(damage(content, other, chance))
        fed += batch

        def work() -> int:
            os.chdir(folder)
            inference.checkpoint = "straight/best.pth"
            inference.input_dir, inference.output_dir = "in", "out"
            inference.device, inference.precision, inference.overlay = "cpu", "fp32", False
            return inference.main()

        began = time.time()
        status = wait(in_child(work, folder / "log"), 300)
        slowest = max(slowest, time.time() - began)
        words = (folder / "log").read_text(errors="replace")
        if status not in (0, 1) or "Traceback" in words:
            found.append(f"inference ended with {status}: {words[-800:]}")
            continue
        for path in (folder / "in").iterdir():
            mask = folder / "out" / f"{path.stem}.png"
            if not mask.exists():
                refused += 1
                if str(Path("in") / path.name) not in words:
                    found.append(f"{path.name} has no mask and was not named")
                continue
            coloured += 1
            with Image.open(path) as picture, Image.open(mask) as ids:
                # Turned, where damage made an EXIF note.
                if ids.size not in (picture.size, picture.size[::-1]):
                    found.append(f"{path.name} is {picture.size} but its mask {ids.size}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    words = f"{coloured} coloured all the same, {refused} refused by name"
    words += f"; slowest hundred {slowest:.0f} s; peak memory {peak:.2f} GiB"
    print(f"(b) {fed} damaged pictures: {words}; {len(found)} faults")
    return found


def soak_fills(folder: Path, chance: random.Random) -> list[str]:
    small, found, full = folder / "small", [], 0
    small.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", small], capture_output=True
    ).returncode:
        print("(c) left out: mounting a small file system needs root")
        return []
    try:
        for number in range(fills):
            run = f"small/run{number}"
            filler = small / "filler"
            size = chance.randrange(8 * 2**20, 12 * 2**20)
            filler.write_bytes(bytes(size))  # little or nothing is left
            status = run_training(folder, run, folder / "log")
            words = (folder / "log").read_text()
            full += status == 1
            is_said = status == 0 or status == 1 and "can't be written" in words
            if not is_said or "Traceback" in words:
                found.append(f"full disk: exit status {status}: {words[-600:]}")
            filler.unlink()
            if run_training(folder, run, folder / "log") != 0:
                found.append(f"with room again: {(folder / 'log').read_text()[-600:]}")
            elif fault := difference(folder / "straight", folder / run):
                found.append(f"filled and taken up: {fault}")
            shutil.rmtree(folder / run)
    finally:
        subprocess.run(["umount", small])
    stopped = f"{full} of them stopped by it"
    print(f"(c) {fills} runs on a small file system, {stopped}; {len(found)} faults")
    return found


def main() -> int:
    with tempfile.TemporaryDirectory() as name:
        folder, chance = Path(name), random.Random(seed)
        found = soak_kills(folder, chance)
        found += soak_pictures(folder, chance) + soak_fills(folder, chance)
        found += soak_strangers(folder, chance, strangers)
    print("\n".join(found))
    return 1 if found else 0


if __name__ == "__main__":
    run_script(globals(), main)
