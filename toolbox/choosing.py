"""Which size, which net and which part of a picture are worth a run's time: all of them are gone
through, with what each lets see and how often."""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from toolbox.traits import Traits

import numpy as np

BASES = (16, 24, 32, 48, 64)  # channels of the first level
WINDOWS = (1.0, 0.5, 0.25, 0.125)  # shares of a picture that a step may see
SMALLER = 0.83  # training_scale beside zoom, which shows things larger than whole pictures do
BATCH = 4
ENOUGH_VIEWS = 16_000  # pictures or windows seen, from which on a wider net learns more
PLACED = 0.1  # from here on where a class is tells up from down, or left from right

# Seconds of a step: of a net (features, patch), and the sides of what it is trained on.
Measure = Callable[[tuple[int, ...], int, tuple[int, int]], float]


class Candidate(NamedTuple):
    """What decides how long a step takes and what it can see."""

    image_size: tuple[int, int]
    window: float  # share of the picture that a step sees
    features: tuple[int, ...]
    patch: int
    trained: tuple[int, int]  # sides of what a step is trained on
    views: float  # pictures or windows that a run sees
    value: float  # the mean IoU that may be hoped for, to compare by


class Pace:
    """Seconds of a step, measured for two sizes of each net and reckoned for all others."""

    def __init__(self, measure: Measure, side: int = 512, most: float = math.inf):
        """side: of the pictures; what is larger is not measured. most: pixels of a picture, as
        they are kept on the disk."""
        self.measure, self.side, self.most = measure, side, most
        self.line = lru_cache(maxsize=None)(self.line)

    def line(self, features: tuple[int, ...], patch: int) -> tuple[float, float]:
        """What a step takes whatever the size, and for each cell of patch × patch pixels more."""
        many = max(32, min(192, self.side // patch // 32 * 32))
        few = many // 2
        short = self.measure(features, patch, (few * patch, few * patch))
        long = self.measure(features, patch, (many * patch, many * patch))
        each = max(long - short, 0.05 * long) / (many**2 - few**2)
        return max(0.0, short - each * few**2), each

    def seconds(self, features: tuple[int, ...], patch: int, size: Sequence[int]) -> float:
        start, each = self.line(features, patch)
        return start + each * math.prod(size) / patch**2


def widths(base: int, size: Sequence[int], patch: int) -> tuple[int, ...]:
    """Levels until the deepest sees the picture as some eight cells high."""
    levels = 3 if min(size) / patch < 100 else 4
    return tuple(base * 2**i for i in range(levels))


def trained_size(image_size: Sequence[int], window: float, multiple: int) -> tuple[int, int]:
    """Sides of a window that has a share of the picture, whole multiples of what the net divides
    by."""
    sides = [side * math.sqrt(window) for side in image_size]
    return tuple(max(multiple, round(side / multiple) * multiple) for side in sides)


# ---- which net, which size ----


def kept_at(traits: Traits, image_size: Sequence[int]) -> float:
    """The mean IoU that a net without mistakes would have at a size, between those measured."""
    area = math.log(math.prod(image_size))
    areas = [math.log(math.prod(size)) for size in traits.kept]
    means = [float(np.nanmean(kept)) for kept in traits.kept.values()]
    return float(np.interp(area, areas[::-1], means[::-1]))


def hoped_for(traits: Traits, image_size: Sequence[int], patch: int, window: float, views: float):
    """What may be hoped for, to compare candidates by: what the size leaves, to the third power, as
    what is hardly there is hardly learnt either; less for few views, for squares, and for windows
    that hide where in the picture they are."""
    left = kept_at(traits, image_size) ** 3
    kinds = len(traits.names)
    unlearnt = 0.04 * math.sqrt(kinds) * (1000 / views) ** 0.5
    coarse = 0.0
    if patch > 1:  # few of them show little
        coarse = 0.06 * (4 * 3500 / math.prod(image_size)) ** 0.7
    lost = 0.03 if max(traits.upside_down, traits.mirrored) > PLACED else 0.005
    blind = lost * math.log2(1 / window)
    return left - unlearnt - coarse - blind


def candidates(traits: Traits, pace: Pace, seconds: float, base: int) -> Iterator[Candidate]:
    """All sizes, squares and windows, with the views that fit into so many seconds."""
    sizes = [size for size in traits.kept if math.prod(size) <= pace.most]
    for image_size in sizes or list(traits.kept)[-1:]:
        for patch in (1, 2):
            for window in WINDOWS:
                features = widths(base, image_size, patch)
                multiple = patch * 2 ** len(features)
                share = window * SMALLER**2
                trained = trained_size(image_size, share, multiple)
                if window < 1 and min(trained) < 96:
                    continue
                views = BATCH * seconds / pace.seconds(features, patch, trained)
                value = hoped_for(traits, image_size, patch, window, views)
                yield Candidate(image_size, window, features, patch, trained, views, value)


def best_candidate(traits: Traits, pace: Pace, seconds: float) -> Candidate:
    """The best with a narrow net; then as wide a one as still sees enough."""
    best = max(candidates(traits, pace, seconds, BASES[0]), key=lambda one: one.value)
    for base in BASES[1:]:
        features = tuple(width * base // BASES[0] for width in best.features)
        views = BATCH * seconds / pace.seconds(features, best.patch, best.trained)
        if views >= ENOUGH_VIEWS:
            best = best._replace(features=features, views=views)
    return best


def as_size(size: Sequence[int]) -> str:
    return f"{size[1]}×{size[0]}"


def differs(now: Candidate, later: Candidate) -> str:
    """What more time would be for."""
    parts = []
    if later.image_size != now.image_size:
        parts.append(f"pictures at {as_size(later.image_size)}")
    if later.patch != now.patch:
        parts.append("every pixel by itself" if later.patch < now.patch else "squares")
    if later.window != now.window:
        parts.append("whole pictures" if later.window == 1 else f"windows of {later.window:.0%}")
    if later.features != now.features:
        parts.append(f"a net of {', '.join(map(str, later.features))}")
    more = f"{later.views:,.0f} pictures or windows seen in place of {now.views:,.0f}"
    return "; ".join([*parts, more])
