"""Every pair read once, checked, counted, and kept at image_size, for as long as its files are
unchanged."""

import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import lru_cache
from itertools import chain
from pathlib import Path

from toolbox.bars import Counting
from toolbox.errors import InputError
from toolbox.files import file_facts, fingerprint, writing
from toolbox.findings import Cause, FileInputError
from toolbox.masks import resize_image, resize_mask
from toolbox.processes import all_cores
from toolbox.sweeping import make_aside, sweep_unfinished

import numpy as np

CACHE = Path(__file__).parent.parent / "Dataset" / "cache"  # may be deleted at any time
FACTS = ("sizes", "pixels", "digests")  # arrays of what is known of each pair at its own size
PICTURES = ("images", "masks")  # arrays of the pairs at image_size
TOO_BIG = Cause("pairs are too big for this machine's memory", "cut it into smaller ones")

ReadPair = Callable[..., tuple[np.ndarray, np.ndarray]]  # to image and ids at their own size


def remembered(name: str, make: Callable[[], dict]) -> dict:
    """What make() gives, as JSON, found again under that name the next time."""
    path = CACHE / f"{name}.json"
    with suppress(OSError, ValueError):  # not there yet, or torn by a kill
        return json.loads(path.read_text())
    made = make()
    with writing(CACHE):
        CACHE.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made))
    return made


@lru_cache(maxsize=8)
def open_array(path: Path) -> np.ndarray:
    """A cached array as the disk holds it, opened once in each process; pages come as they are
    read."""
    return np.load(path, mmap_mode="r")


def read_row(folder: Path, row: int) -> tuple[np.ndarray, np.ndarray]:
    """A pair from a cache folder: image (H, W, 3) and mask (H, W), both uint8."""
    images, masks = (open_array(folder / f"{name}.npy") for name in PICTURES)
    return np.array(images[row]), np.array(masks[row])


def facts_of(image: np.ndarray, mask: np.ndarray) -> tuple[tuple[int, int], np.ndarray, int]:
    """Height and width, the pixels of each class id, and a digest of the image's pixels."""
    width = str(image.shape[1]).encode()
    digest = int.from_bytes(hashlib.blake2b(image, digest_size=7, salt=width).digest())
    return mask.shape, np.bincount(mask.ravel(), minlength=256), digest


class Filling:
    """Arrays in a folder, to be filled pair by pair."""

    def __init__(self, folder: Path, count: int, image_size: Sequence[int], keeps_pictures: bool):
        self.folder, self.image_size = folder, image_size
        self.problems: list[InputError] = []
        self.facts = {
            "sizes": np.zeros((count, 2), np.int64),
            "pixels": np.zeros((count, 256), np.int64),
            "digests": np.zeros(count, np.int64),
        }
        self.pictures: dict[str, np.ndarray] = {}
        if keeps_pictures:
            shapes = {"images": (count, *image_size, 3), "masks": (count, *image_size)}
            for name, shape in shapes.items():
                self.pictures[name] = self.make_room(folder / f"{name}.npy", shape)

    def make_room(self, path: Path, shape: Sequence[int]) -> np.ndarray:
        """A full disk is found out here; met through memory later, it would kill the process."""
        array = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
        return array

    def take(self, row: int, image: np.ndarray, mask: np.ndarray) -> None:
        for array, fact in zip(self.facts.values(), facts_of(image, mask)):
            array[row] = fact
        if self.pictures:
            self.pictures["images"][row] = resize_image(image, self.image_size)
            self.pictures["masks"][row] = resize_mask(mask, self.image_size)

    def close(self) -> None:
        """All of it on the disk before the folder gets its name, also if the power fails."""
        for name, array in self.facts.items():
            np.save(self.folder / f"{name}.npy", array)
        for array in self.pictures.values():
            array.flush()
        self.pictures.clear()  # Windows moves no folder whose files are open
        for path in self.folder.iterdir():
            with open(path, "r+b") as file:
                os.fsync(file.fileno())


def read_all(pairs: Sequence, read_pair: ReadPair, filling: Filling) -> list[InputError]:
    """Read every pair on all cores; returns what is wrong with any of them."""

    def read_one(row: int) -> None:
        try:
            filling.take(row, *read_pair(pairs[row]))
        except InputError as problem:
            filling.problems.append(problem)
        except MemoryError:
            image = pairs[row].image
            sentence = f"{image} or its mask is too big for this machine's memory; {TOO_BIG.cure}"
            filling.problems.append(FileInputError(sentence, TOO_BIG, image))

    # Decoding and resizing leave Python's lock alone.
    with ThreadPoolExecutor(all_cores()) as threads:
        done = threads.map(read_one, range(len(pairs)))
        list(Counting(done, "reading all pairs once", len(pairs), unit="pair", leave=False))
    filling.close()
    return sorted(filling.problems, key=str)


def is_whole(folder: Path, count: int, keeps_pictures: bool) -> bool:
    """Whether a cache folder is there with all that belongs to it."""
    names = FACTS + PICTURES if keeps_pictures else FACTS
    try:
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in names]
    except (OSError, ValueError, EOFError):
        return False
    return all(len(array) == count for array in arrays)


def put_in_place(unfinished: Path, folder: Path, stem: str, count: int, keeps: bool) -> None:
    """Give a filled folder its name, in place of what was there for other or damaged files."""
    for outdated in CACHE.glob(f"{glob.escape(stem)}-*"):
        is_ours = re.fullmatch("-[0-9a-f]{12}", outdated.name.removeprefix(stem))
        if is_ours and outdated != folder:
            shutil.rmtree(outdated, ignore_errors=True)
    if folder.exists() and not is_whole(folder, count, keeps):
        with suppress(FileNotFoundError):  # another run may do the same
            folder.rename(unfinished.parent / "torn")
        open_array.cache_clear()
    try:
        unfinished.rename(folder)
    except OSError:
        if not is_whole(folder, count, keeps):  # else another run was quicker
            raise


def fill(
    root: Path,
    pairs: Sequence,
    meaning: dict | None,
    reader: list[str],
    read_pair: ReadPair,
    image_size: Sequence[int],
    keeps: bool,
) -> tuple[Path, list[InputError]]:
    """The folder that holds these pairs, filled unless it was before; and what is wrong with any of
    them, in which case there is no folder."""
    origin = fingerprint(str(root.resolve()), meaning)
    kind = "kept" if keeps else "checked"
    stem = f"{root.name}-{image_size[0]}x{image_size[1]}-{kind}-{origin}"
    files = file_facts(list(chain.from_iterable(pair[:2] for pair in pairs)))
    # What is checked stands in the name: files read before it was checked are read again.
    folder = CACHE / f"{stem}-{fingerprint('palettes, pages, ranges', FACTS, files, *reader)}"
    if is_whole(folder, len(pairs), keeps):
        return folder, []
    with writing(CACHE):
        CACHE.mkdir(parents=True, exist_ok=True)
        sweep_unfinished(CACHE, "cache")
        aside = make_aside(CACHE, "cache")
        unfinished = aside / folder.name  # its own folder, as mkdtemp's is closed to other users
        try:
            unfinished.mkdir()
            filling = Filling(unfinished, len(pairs), image_size, keeps)
            problems = read_all(pairs, read_pair, filling)
            if not problems:
                put_in_place(unfinished, folder, stem, len(pairs), keeps)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder, problems
