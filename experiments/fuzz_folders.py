"""Folders of pictures as people have them, given to dataset.py. Whatever is neither read right, to
the pixel, nor refused in a few sentences is printed; the exit status is 1.

    python experiments/fuzz_folders.py [folders=1000] [seed=0] [seconds=0]

made_folders.py makes them up and knows the class of each pixel. Where a classes.csv is offered, it
is pasted and tried: it must be accepted, and be right. Of two values without a table it is open
which is the background. No file of the user's may change. seconds ends the search earlier.
"""

import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import albumentations  # noqa: F401  imported once, before any child
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from toolbox import cache
from toolbox.settings import read_constants, run_script
from toolbox.values import IGNORE

from made_folders import LOSSLESS, VOID, Made, make_folder
from trying import Tally, fault_of, snapshot, try_out

import dataset

folders = 1000
seed = 0
seconds = 0

TABLE = re.compile(r"your own:\n(id,name.*(?:\n\d+,.*)+)")


def read_all(place: Path, root: Path) -> None:
    """dataset.py on the folder, and what it then knows of each pixel, left in a file."""
    os.chdir(place)
    cache.CACHE = place / "cache"
    own = {"dataset": str(root), "image_size": (16, 16), "augment": "flip"}
    dataset.main({**read_constants(), **own})
    data = dataset.prepare(str(root), "", (16, 16))
    arrays, keys = {}, []
    for i, pair in enumerate(data.pairs):
        image, ids = dataset.read_pair(pair, data.table.meaning, data.source.read_values)
        arrays |= {f"image{i}": image, f"ids{i}": ids}
        keys.append(pair.image.relative_to(root).as_posix())
    np.savez(place / "read.npz", **arrays)
    (place / "read.json").write_text(json.dumps(keys))


def wrong_pixels(place: Path, made: Made, is_open: bool) -> str:
    """How what was read differs from the truth."""
    keys = json.loads((place / "read.json").read_text())
    if {*keys} != {*made.images}:
        return f"other pairs: {sorted({*keys} ^ {*made.images})}"
    met = set()
    with np.load(place / "read.npz") as read:
        for i, key in enumerate(keys):
            image, ids, classes = read[f"image{i}"], read[f"ids{i}"], made.classes[key]
            if Path(key).suffix.lower() in LOSSLESS and not np.array_equal(image, made.images[key]):
                return f"{key} is another picture"
            if classes is not None:
                met |= {*zip(classes.ravel().tolist(), ids.ravel().tolist())}
    if not is_open:
        right = {**made.ids, VOID: IGNORE}
        wrong = sorted((label, i) for label, i in met if right[label] != i)
        return f"class and id {wrong}, but {right} is right" if wrong else ""
    lost = [label for label, i in met if i == IGNORE and label != VOID]
    labels, ids = Counter(label for label, _ in met), Counter(i for _, i in met)
    mixed = max([*labels.values(), *ids.values()], default=1) > 1
    return f"classes and ids are mixed: {sorted(met)}" if lost or mixed else ""


def judge(place: Path, made: Made, status: int | None, words: str, is_open: bool) -> str:
    """What is wrong with how it ended."""
    names = [path.name for path in made.root.rglob("*")]
    fault = fault_of(status, words, [*names, "images", "masks", str(made.root)])
    if fault or status != 0:
        return fault
    if made.must:
        return f"accepted in spite of {made.must}"
    unsaid = [said for said in made.said if said not in words]
    if unsaid:
        return f"nothing was said of {unsaid[0]}"
    return wrong_pixels(place, made, is_open)


def try_folder(place: Path, number: int, tally: Tally) -> None:
    """One folder, and once more with the table that is offered."""
    root = place / f"mine{number}"
    made = make_folder(root, f"{seed} {number}")
    before = snapshot(root)
    has_table = made.ids is not None
    status, words = try_out(lambda: read_all(place, root), place / "log")
    fault = judge(place, made, status, words, is_open=not has_table)
    long = place / "TrainingOutput" / f"problems-{root.name}.txt"
    offered = TABLE.search(long.read_text() if "more lines, which" in words else words)
    if status == 1 and not fault and not (made.must or made.may or offered):
        fault = "a right folder is refused"
    if snapshot(root) != before:
        fault = fault or "files were changed"
    if offered and not fault:
        (root / "classes.csv").write_text(offered[1] + "\n", encoding="utf-8")
        status, words = try_out(lambda: read_all(place, root), place / "log")
        fault = judge(place, made, status, words, is_open=True)
        if status == 1 and not fault:
            if TABLE.search(words) or not (made.must or made.may):
                fault = "the table that was offered is refused"
    about = f"seed={seed}, folder {number} ({', '.join(made.about)})"
    tally.add(status, fault and f"{fault}:\n{words[-1500:]}", about)
    shutil.rmtree(root)


def main() -> int:
    tally, began = Tally(), time.time()
    with tempfile.TemporaryDirectory() as name:
        for number in range(folders):
            if seconds and time.time() - began > seconds:
                break
            try_folder(Path(name).resolve(), number, tally)
    print(f"{tally.count()} folders: {tally}")
    print("\n".join(tally.faults))
    return 1 if tally.faults else 0


if __name__ == "__main__":
    run_script(globals(), main)
