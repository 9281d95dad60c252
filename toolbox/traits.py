"""What a data set's masks are like: how thick things are, what is lost where they are shrunk, and
whether up and down, or left and right, are told apart."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from toolbox.bars import Counting
from toolbox.errors import InputError
from toolbox.prepared import Data
from toolbox.values import IGNORE

import cv2
import numpy as np

MOST = 60  # masks that are looked at
PIXELS = 60_000_000  # in all of them
LARGEST = 4_000_000  # pixels of a mask; a larger one is made smaller first
GRID = 16  # cells along a side of the map of where each class is
ENOUGH = 8  # masks, below which chance has too large a part in where things are
CLOSE = 16  # sizes are multiples of it, but for the pictures' own


@dataclass
class Traits:
    """Of K classes, from as many training masks as were looked at."""

    names: list[str]
    shape: tuple[int, int]  # typical height and width on disk
    pictures: int  # to train on
    judged: int  # in all splits, at the end of a run
    share: np.ndarray  # (K,) of all training pixels
    thickness: np.ndarray  # (K,) along middle lines, the typical one, pixels on disk; NaN: absent
    kept: dict[tuple[int, int], np.ndarray]  # (K,) IoU that is left after shrinking to a size
    upside_down: float  # how unlike the classes' places are if pictures are turned upside down
    mirrored: float  # and from left to right: 0 alike; NaN where there are too few to tell
    difficulty: float = 0.2  # what a small net lacks in mean IoU after a few steps


def thickness_of(inside: np.ndarray) -> np.ndarray:
    """How thick a class is along its middle lines, in pixels."""
    around = np.pad(inside, 1)  # what touches the border ends there
    depth = cv2.distanceTransform(around, cv2.DIST_L2, 5)
    is_middle = (depth > 0) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))
    return 2 * depth[is_middle] - 1


def planes(mask: np.ndarray, classes: int) -> Iterator[np.ndarray]:
    """Each class's pixels, (H, W) of 0 and 1."""
    for i in range(classes):
        yield (mask == i).astype(np.float32)


def shrunk_and_back(mask: np.ndarray, classes: int, size: Sequence[int]) -> np.ndarray:
    """The classes (H, W) that a net without mistakes finds where it sees the picture at a size."""
    height, width = mask.shape
    best = np.full((height, width), -1, np.float32)
    left = np.zeros((height, width), np.uint8)
    for i, plane in enumerate(planes(mask, classes)):
        small = cv2.resize(plane, size[::-1], interpolation=cv2.INTER_AREA)
        back = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        left[back > best] = i
        best = np.maximum(best, back)
    return left


def matrix_of(mask: np.ndarray, left: np.ndarray, classes: int) -> np.ndarray:
    """Pixels by their class, the row, and what is left of them, the column."""
    known = mask != IGNORE
    cells = mask[known].astype(np.int64) * classes + left[known]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def iou_of(counts: np.ndarray) -> np.ndarray:
    """Each class's IoU (K,), NaN for one that is not there."""
    hits, true = counts.diagonal(), counts.sum(axis=1)
    union = true + counts.sum(axis=0) - hits
    return np.where(true > 0, hits / np.maximum(union, 1), np.nan)


def place_map(mask: np.ndarray, classes: int) -> np.ndarray:
    """Where the classes are, roughly, (GRID, GRID, K)."""
    rough = [
        cv2.resize(plane, (GRID, GRID), interpolation=cv2.INTER_AREA)
        for plane in planes(mask, classes)
    ]
    return np.stack(rough, axis=2)


def unlikeness(maps: np.ndarray, axis: int) -> float:
    """How much of where things are changes if maps (N, G, G, K) are mirrored; what chance alone
    would change is taken off."""
    if len(maps) < ENOUGH:
        return math.nan
    whole = maps.mean(axis=0)
    moved = np.abs(whole - np.flip(whole, axis)).mean()
    # By chance: the same with each picture mirrored or not by the toss of a coin.
    tosses = np.random.default_rng(0).random((20, len(maps))) < 0.5
    by_chance = []
    for toss in tosses:
        mixed = np.where(toss[:, None, None, None], np.flip(maps, axis + 1), maps).mean(axis=0)
        by_chance.append(np.abs(mixed - np.flip(mixed, axis)).mean())
    spread = 2 * np.abs(whole - whole.mean(axis=(0, 1))).mean()
    surplus = moved - np.mean(by_chance) - 2 * np.std(by_chance)
    return float(max(0.0, surplus) / max(spread, 1e-6))


def sizes_below(shape: Sequence[int]) -> list[tuple[int, int]]:
    """Sizes to shrink to: the pictures' own, and each with 0.7 times the pixels of the one
    before."""
    sizes = [(shape[0], shape[1])]
    ratio = 0.7**0.5
    while min(shape) * ratio >= 2 * CLOSE:
        size = tuple(max(1, round(side * ratio / CLOSE)) * CLOSE for side in shape)
        if size not in sizes:
            sizes.append(size)
        ratio *= 0.7**0.5
    return sizes


def chosen_rows(data: Data) -> list[int]:
    """Training rows whose masks have a class, evenly from all of them, as many as can be looked at
    in a moment; and one with each class that would be missed so."""
    has = data.pixels[:, : len(data.table.names)] > 0  # (N, K)
    rows = [row for row in data.splits["train"] if has[row].any()]
    typical = float(np.median(data.sizes[rows].prod(axis=1)))
    count = int(min(len(rows), MOST, max(ENOUGH, PIXELS / typical)))
    chosen = [rows[i] for i in np.linspace(0, len(rows) - 1, count).round().astype(int)]
    for missed in np.flatnonzero(has[rows].any(axis=0) & ~has[chosen].any(axis=0)):
        chosen.append(next(row for row in rows if has[row, missed]))
    return chosen


def seen_mask(data: Data, row: int) -> np.ndarray:
    """A pair's class ids at the size on disk; of a huge one fewer pixels."""
    _, mask = data.read_pair(data.pairs[row], data.table.meaning, data.source.read_values)
    ratio = math.sqrt(LARGEST / mask.size)
    if ratio >= 1:
        return mask
    return cv2.resize(mask, None, fx=ratio, fy=ratio, interpolation=cv2.INTER_NEAREST_EXACT)


def find_traits(data: Data) -> Traits:
    """Read some training masks, and measure them."""
    classes, rows = len(data.table.names), data.splits["train"]
    pixels = data.counts("train")
    if not pixels.any():
        raise InputError(
            f"no pixel of the {len(rows)} training masks of {data.name} has a class: all are "
            "ignored; look at the masks and at classes.csv"
        )
    shape = tuple(int(side) for side in np.median(data.sizes[rows], axis=0))
    sizes = sizes_below(shape)
    counts = np.zeros((len(sizes), classes, classes), np.int64)
    thick: list[list[np.ndarray]] = [[] for _ in range(classes)]
    maps = []
    chosen = chosen_rows(data)
    for row in Counting(chosen, "looking at masks", len(chosen), unit="mask", leave=False):
        mask = seen_mask(data, row)
        scale = math.sqrt(data.sizes[row].prod() / mask.size)
        for i, plane in enumerate(planes(mask, classes)):
            if plane.any():
                thick[i].append(scale * thickness_of(plane.astype(np.uint8)))
        for i, size in enumerate(sizes):
            counts[i] += matrix_of(mask, shrunk_and_back(mask, classes, size), classes)
        maps.append(place_map(mask, classes))
    typical = [float(np.median(np.concatenate(one))) if one else math.nan for one in thick]
    return Traits(
        names=data.table.names,
        shape=shape,
        pictures=len(rows),
        judged=len(data.pairs),
        share=pixels / pixels.sum(),
        thickness=np.array(typical),
        kept={size: iou_of(counts[i]) for i, size in enumerate(sizes)},
        upside_down=unlikeness(np.stack(maps), 0),
        mirrored=unlikeness(np.stack(maps), 1),
    )
