"""What a data set's masks are like: how thick and how many its things are, what is lost where they
are shrunk, and whether up and down, or left and right, are told apart."""

from collections.abc import Sequence
from dataclasses import dataclass

from toolbox.bars import Counting
from toolbox.prepared import Data
from toolbox.values import IGNORE

import cv2
import numpy as np

MOST = 60  # masks that are looked at
PIXELS = 60_000_000  # in all of them
GRID = 16  # cells along a side of the map of where each class is


@dataclass
class Traits:
    """K classes, in as many training masks as were looked at."""

    names: list[str]
    shape: tuple[int, int]  # typical height and width on disk
    pictures: int  # to train on
    share: np.ndarray  # (K,) of the pixels
    found: np.ndarray  # (K,) masks that have it
    thickness: np.ndarray  # (K,) typical width along its middle lines, pixels on disk; NaN: absent
    things: np.ndarray  # (K,) pieces that hang together, in a mask that has it
    kept: dict[tuple[int, int], np.ndarray]  # (K,) IoU that is left after shrinking to a size
    upside_down: float  # how unlike the classes' places are if pictures are turned upside down
    mirrored: float  # and from left to right; 0 alike, 1 as unlike as can be


def thickness_of(inside: np.ndarray) -> tuple[np.ndarray, int]:
    """How thick a class is along its middle lines, in pixels, and in how many pieces it is."""
    around = np.pad(inside, 1)  # what touches the border ends there
    depth = cv2.distanceTransform(around, cv2.DIST_L2, 5)
    ridge = (depth > 0) & (depth >= cv2.dilate(depth, np.ones((3, 3), np.uint8)))
    pieces = cv2.connectedComponents(around, connectivity=8)[0] - 1
    return 2 * depth[ridge] - 1, pieces


def one_hot(mask: np.ndarray, classes: int) -> np.ndarray:
    """(H, W, K) of 0 and 1; all 0 where there is no class."""
    return np.eye(256, classes, dtype=np.float32)[mask]


def place_map(shares: np.ndarray) -> np.ndarray:
    """Where the classes are, roughly, (GRID, GRID, K)."""
    planes = [
        cv2.resize(shares[..., i], (GRID, GRID), interpolation=cv2.INTER_AREA)
        for i in range(shares.shape[2])
    ]
    return np.stack(planes, axis=2)


def shrunk_and_back(shares: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """The classes (H, W) that are left of shares (H, W, K) when a net that makes no mistakes sees
    the picture at a size."""
    height, width, classes = shares.shape
    best = np.full((height, width), -1, np.float32)
    found = np.zeros((height, width), np.uint8)
    for i in range(classes):
        small = cv2.resize(shares[..., i], size[::-1], interpolation=cv2.INTER_AREA)
        back = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
        found[back > best] = i
        best = np.maximum(best, back)
    return found


def matrix_of(mask: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """Pixels by their class, the row, and what was found, the column."""
    known = mask != IGNORE
    cells = mask[known].astype(np.int64) * classes + found[known]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def iou_of(counts: np.ndarray) -> np.ndarray:
    """Each class's IoU (K,), NaN for one that is not there."""
    hits, true = counts.diagonal(), counts.sum(axis=1)
    union = true + counts.sum(axis=0) - hits
    return np.where(true > 0, hits / np.maximum(union, 1), np.nan)


def unlikeness(maps: np.ndarray, axis: int) -> float:
    """How much of where things are changes if maps (N, G, G, K) are mirrored; what chance alone
    would change is taken off."""
    whole = maps.mean(axis=0)
    moved = np.abs(whole - np.flip(whole, axis)).mean()
    # By chance: the same with each picture mirrored or not by the toss of a coin.
    tosses = np.random.default_rng(0).random((20, len(maps))) < 0.5
    by_chance = []
    for toss in tosses:
        mixed = np.where(toss[:, None, None, None], np.flip(maps, axis + 1), maps).mean(axis=0)
        by_chance.append(np.abs(mixed - np.flip(mixed, axis)).mean())
    spread = np.abs(whole - whole.mean(axis=(0, 1))).mean() * 2
    return float(max(0.0, moved - np.mean(by_chance) - 2 * np.std(by_chance)) / max(spread, 1e-6))


def sizes_below(shape: Sequence[int]) -> list[tuple[int, int]]:
    """Sizes to shrink to: the pictures' own, and each 0.84 times the one before."""
    sizes = []
    share = 1.0
    while min(shape) * share >= 32:
        sizes.append((round(shape[0] * share), round(shape[1] * share)))
        share *= 2**-0.25
    return sizes or [(shape[0], shape[1])]


def chosen_rows(data: Data) -> list[int]:
    """Training rows, evenly from all of them, as many as can be looked at in a moment."""
    rows = data.splits["train"]
    typical = float(np.median(data.sizes[rows].prod(axis=1)))
    count = int(min(len(rows), MOST, max(4, PIXELS / typical)))
    return [rows[i] for i in np.linspace(0, len(rows) - 1, count).round().astype(int)]


def find_traits(data: Data) -> Traits:
    """Read some training masks at their own size, and measure them."""
    classes = len(data.table.names)
    rows = data.splits["train"]
    shape = tuple(int(side) for side in np.median(data.sizes[rows], axis=0))
    sizes = sizes_below(shape)
    counts = np.zeros((len(sizes), classes, classes), np.int64)
    widths: list[list[np.ndarray]] = [[] for _ in range(classes)]
    things, found = np.zeros(classes), np.zeros(classes)
    maps = []
    chosen = chosen_rows(data)
    for row in Counting(chosen, "looking at masks", len(chosen), unit="mask", leave=False):
        _, mask = data.read_pair(data.pairs[row], data.table.meaning, data.source.read_values)
        shares = one_hot(mask, classes)
        for i in range(classes):
            inside = (mask == i).astype(np.uint8)
            if inside.any():
                width, pieces = thickness_of(inside)
                widths[i].append(width)
                things[i] += pieces
                found[i] += 1
        own = mask.shape[0] / shape[0], mask.shape[1] / shape[1]
        for i, size in enumerate(sizes):
            at = [max(1, round(side * ratio)) for side, ratio in zip(size, own)]
            counts[i] += matrix_of(mask, shrunk_and_back(shares, at), classes)
        maps.append(place_map(shares))
    maps = np.stack(maps)
    pixels = data.counts("train")
    return Traits(
        names=data.table.names,
        shape=shape,
        pictures=len(rows),
        share=pixels / max(1, pixels.sum()),
        found=found,
        thickness=np.array([float(np.median(np.concatenate(w))) if w else np.nan for w in widths]),
        things=things / np.maximum(found, 1),
        kept={size: iou_of(counts[i]) for i, size in enumerate(sizes)},
        upside_down=unlikeness(maps, 0),
        mirrored=unlikeness(maps, 1),
    )
