"""A data set ready to train on: every file read once before any training, all that is wrong said
at once."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from toolbox.cache import FACTS, PICTURES, ReadPair, fill, open_array, read_row, remembered
from toolbox.errors import InputError
from toolbox.files import fingerprint, own_path
from toolbox.findings import FileInputError, entries, noted, told
from toolbox.masks import resize_image, resize_mask
from toolbox.pictures import read_note, sample_sheet, save_picture
from toolbox.remarks import (
    cause_in_turning,
    empty_classes,
    note_on_few,
    note_on_ignored,
    note_on_ranges,
    note_on_turned,
    notes_on_lost,
    notes_on_splits,
    same_pictures,
)
from toolbox.sources.base import Pair, Source
from toolbox.splits import split_pairs, unsplit
from toolbox.stacks import CHANNELS, STACK, check_single
from toolbox.values import IGNORE, Table

import numpy as np
import torch
from torch import Tensor


def weigh_classes(pixels: Tensor, power: float) -> Tensor:
    """Each class's share of the pixels (K,) to the power of -power, 1 on average over all pixels; 0
    for a class without any."""
    share = pixels.double() / pixels.sum()
    weights = share.clamp(min=1e-12) ** -power * (share > 0)
    return (weights / (weights * share).sum()).float()


@dataclass
class Data:
    """Row i of everything belongs to pairs[i]."""

    name: str
    table: Table
    pairs: list[Pair]
    splits: dict[str, list[int]]  # rows of train, val and test, or of folds and test; none is empty
    image_size: tuple[int, int]
    source: Source
    read_pair: ReadPair
    cache: Path | None  # folder with images.npy and masks.npy, or None: decode every time
    sizes: np.ndarray  # (N, 2) heights and widths on disk
    pixels: np.ndarray  # (N, 256) pixels of each class id, counted at the size on disk
    digests: np.ndarray  # (N,) of the images' pixels
    notes: list[str]  # what the source left out, and why

    def read(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) and mask (H, W), both uint8 at image_size."""
        if self.cache:
            return read_row(self.cache, row)
        image, mask = self.read_pair(self.pairs[row], self.table.meaning, self.source.read_values)
        return resize_image(image, self.image_size), resize_mask(mask, self.image_size)

    def files(self, rows: Sequence[int]) -> list[str]:
        """The names of the images of these rows."""
        return [self.pairs[row].image.name for row in rows]

    def folders(self) -> set[Path]:
        """Where its pictures and masks lie."""
        files = chain.from_iterable((pair.image, pair.mask) for pair in self.pairs)
        return {path.parent for path in files}

    def counts(self, split: str) -> np.ndarray:
        """Pixels of each class in a split, (K,)."""
        return self.pixels[self.splits[split], : len(self.table.names)].sum(axis=0)

    def typical_rows(self) -> list[int]:
        """The pictures whose size is the typical one."""
        return self.splits["train"]

    def class_weights(self, power: float) -> Tensor:
        """Each class's share of the training pixels (K,) to the power of -power."""
        return weigh_classes(torch.from_numpy(self.counts("train")), power)

    def fingerprint(self) -> str:
        """The same for the same pictures, masks and splits, wherever they lie."""
        arrays = (self.sizes, self.pixels, self.digests)
        return fingerprint(self.table.names, self.splits, *(array.tobytes() for array in arrays))

    def scale(self) -> float:
        """Pixels at image_size per pixel on disk, along one side, in the typical training
        picture."""
        height, width = self.sizes[self.typical_rows()].T
        area = self.image_size[0] * self.image_size[1]
        return float(np.median(np.sqrt(area / (height * width))))


def split_notes(data: Data) -> list[str]:
    """What is worth knowing of its splits."""
    counts = {split: data.pixels[rows].sum(axis=0) for split, rows in data.splits.items()}
    return note_on_few(data.splits) + notes_on_splits(data.table.names, counts)


def notes_on_size(data: Data) -> list[str]:
    """What image_size loses, remembered for unchanged files."""
    if not data.cache:
        return []

    def look() -> dict:
        small = open_array(data.cache / "masks.npy")
        return {"notes": notes_on_lost(data.table.names, data.pixels, small)}

    return remembered(f"lost-{fingerprint(data.cache.name)}", look)["notes"]


def check_whole(data: Data) -> list[FileInputError]:
    """What is amiss in all of it; in a published data set it is noted and stays as its owners
    made it."""
    images = [pair.image for pair in data.pairs]
    counts = {split: data.pixels[rows].sum(axis=0) for split, rows in data.splits.items()}
    if "val" in data.splits:  # else they are shared out to folds, which have notes of their own
        data.notes += split_notes(data)
    twice = same_pictures(images, data.splits, data.digests)
    if data.source.is_published:
        data.notes += entries(twice, data.source.root)
        return []
    if not data.table.lists_ignore:
        data.notes += note_on_ignored(counts)
    data.notes += note_on_turned(images, data.sizes) + note_on_ranges(images)
    data.notes += notes_on_size(data)
    return twice + empty_classes(data.table.names, data.pixels)


def make_ready(
    source: Source,
    read_pair: ReadPair,
    image_size: Sequence[int],
    keeps: bool,
    seed: int,
    folds: int,
) -> Data:
    """Read every file once, whatever is wrong with any named in one InputError; for unchanged files
    only the first time."""
    pairs, table, splits = source.pairs, None, {}
    problems = list(source.problems)
    if not pairs and not problems:
        raise InputError(
            f"dataset {source.name} has no pairs of image and mask in {source.root}; "
            "Dataset/readme.md shows the tree that is expected"
        )
    if pairs:
        with noted(problems):
            splits = unsplit(pairs) if folds else split_pairs(pairs, seed)
        with noted(problems):
            table = source.table()
    meaning = table.meaning if table else None

    def read(pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        if not source.is_published:
            check_single(pair.mask, STACK)
            check_single(pair.image, CHANNELS)
        if table:
            return read_pair(pair, meaning, source.read_values)
        return read_pair(pair, {0: 0}, read_blank)  # sizes are all to check

    def read_blank(path: Path, _: dict) -> np.ndarray:
        return np.zeros_like(source.read_values(path))

    if pairs:
        reader = source.reader()
        folder, found = fill(source.root, pairs, meaning, reader, read, image_size, keeps)
        problems += found
    if not problems:
        kept = folder if keeps else None
        facts = [np.load(folder / f"{name}.npy") for name in FACTS]
        name = Path(os.path.abspath(source.root)).name  # also of "."
        size = tuple(image_size)
        data = Data(name, table, pairs, splits, size, source, read_pair, kept, *facts, source.notes)
        problems += check_whole(data)
    if problems:
        likely = source.likely_causes()
        likely += cause_in_turning(problems, [pair.image for pair in pairs])
        raise told(problems, source.root, len(pairs), likely)
    if keeps:  # held from here on, even if another process makes the cache anew meanwhile
        for name in PICTURES:
            open_array(folder / f"{name}.npy")
    return data


# ---- the report of python dataset.py ----


def overview(data: Data) -> str:
    """Pairs, sizes, splits, and each class's share of pixels in each split."""
    sizes = Counter(map(tuple, data.sizes.tolist())).most_common()
    shown = ", ".join(f"{width}×{height} ({count})" for (height, width), count in sizes[:5])
    more = " and others" if len(sizes) > 5 else ""
    pairs_of = ", ".join(f"{split} {len(rows)}" for split, rows in data.splits.items())
    lines = [
        f"{data.name}: {len(data.pairs)} pairs; sizes (width×height): {shown}{more}",
        f"splits: {pairs_of}",
        f"{'id':>3}  {'class':<16}" + "".join(f"{split:>9}" for split in data.splits),
    ]
    for i, name in [*enumerate(data.table.names), (IGNORE, "ignored")]:
        line = f"{i:>3}  {name:<16}"
        for rows in data.splits.values():
            counts = data.pixels[rows].sum(axis=0)
            line += f"{counts[i] / counts.sum():>9.2%}" if counts[i] else f"{'-':>9}"
        lines.append(line)
    return "\n".join(lines + data.notes)


def save_samples(stream: Sequence, data: Data) -> Path:
    """The first twelve of a stream's samples, as the net will see them, in a picture."""
    samples = [stream[position] for position in range(12)]
    wanted = Path("TrainingOutput") / f"samples-{data.name}.png"
    path = own_path(wanted, lambda path: read_note(path, "maker") == "dataset.py")
    if path != wanted:
        print(f"{wanted} is not from dataset.py, and stays as it is")
    sheet = sample_sheet(samples, data.table.names, data.table.colors)
    save_picture(path, sheet, maker="dataset.py")
    return path
