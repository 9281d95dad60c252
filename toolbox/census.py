"""What stands in all masks together: which values in how many pixels, and whether they fill
areas; which colours palettes give them; how many masks are JPEGs."""

from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from toolbox.values import color_key

import numpy as np
from PIL import Image

BINS = 1 << 16  # values below it are counted without sorting


def count(values: np.ndarray) -> Counter:
    """How often each value is there."""
    values = values.ravel()
    if values.dtype == bool:
        values = values.astype(np.uint8)  # an array of True and False holds 0 and 1
    if values.size and values.dtype.kind in "iu" and 0 <= values.min() and values.max() < BINS:
        counts = np.bincount(values)
        found = np.flatnonzero(counts)
        return Counter(dict(zip(found.tolist(), counts[found].tolist())))
    found, counts = np.unique(values, return_counts=True)
    return Counter(dict(zip(map(int, found), counts.tolist())))


def squares(values: np.ndarray) -> np.ndarray:
    """The values that begin a square of 2×2 of their own."""
    corner = values[:-1, :-1]
    same = (corner == values[1:, :-1]) & (corner == values[:-1, 1:]) & (corner == values[1:, 1:])
    return corner[same]


@dataclass
class Census:
    """Of one mask, or of many."""

    values: Counter = field(default_factory=Counter)
    solid: Counter = field(default_factory=Counter)  # of these, pixels that begin a square
    # What a palette shows for a value: [value, its colour, a file that has it so].
    shown: list[list] = field(default_factory=list)
    shared: list[int] = field(default_factory=list)  # colours that a palette shows for several
    jpegs: int = 0
    both: bool = False  # whether a mask holds 1 and 255, which are then two things

    def as_json(self) -> dict:
        return vars(self)


def of_mask(path: Path, values: np.ndarray, is_picture: bool) -> Census:
    census = Census(count(values), count(squares(values)))
    census.both = {1, 255} <= census.values.keys()
    if is_picture:
        with suppress(Exception), Image.open(path) as picture:  # it was read before
            census.jpegs = int(picture.format in ("JPEG", "MPO"))
            if picture.mode == "P":
                note_palette(census, path, picture)
    return census


def note_palette(census: Census, path: Path, picture: Image.Image) -> None:
    """The palette's colours for the values that are there."""
    palette = np.reshape(picture.getpalette(), (-1, 3)).tolist()
    there = [value for value in census.values if value < len(palette)]
    colors = {value: color_key(palette[value]) for value in there}
    times = Counter(colors.values())
    census.shared = [color for color in times if times[color] > 1]
    for value, color in colors.items():
        if times[color] == 1:
            census.shown.append([value, color, str(path)])


def together(parts: Iterable[Census]) -> Census:
    """All masks as one; of those that show a value alike, the first is remembered."""
    whole, seen = Census(), set()
    for part in parts:
        whole.values.update(part.values)
        whole.solid.update(part.solid)
        whole.jpegs += part.jpegs
        whole.both |= part.both
        whole.shared = sorted({*whole.shared, *part.shared})
        for value, color, path in part.shown:
            if (value, color) not in seen:
                seen.add((value, color))
                whole.shown.append([value, color, path])
    return whole


def from_json(content: dict) -> Census:
    """What as_json gave; JSON knows keys that are texts only."""
    counters = []
    for name in ("values", "solid"):
        counters.append(Counter({int(value): n for value, n in content[name].items()}))
    content = content | dict(zip(("values", "solid"), counters))
    return Census(**content)
