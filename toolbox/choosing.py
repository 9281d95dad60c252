"""Which size, which net and which part of a picture are worth a run's time: all of them are gone
through, with what each lets see and how often. How the numbers were found is in docs/results.md."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from toolbox.settings import training_size
from toolbox.traits import Traits

import numpy as np

BASES = (16, 24, 32, 48, 64)  # channels of the first level
PARTS = (1.0, 0.5, 0.25, 0.125)  # of a picture that a step may see
LEAST_SIDE = 96  # of such a part
SMALLER = 0.83  # training_scale beside zoom, which shows things larger than whole pictures do
BATCH = 4
FORWARD = 0.35  # of a step's time for a picture is what judging it takes: it has no way back
FIRST_VIEWS = 400  # after which it is seen how hard the task is
EASY = 0.03  # of a lower difficulty no more is made: some steps are needed for anything
ENOUGH_VIEWS = 8_000  # pictures, or parts of them, seen: from here on a wider net learns more
PLACED = 0.1  # from here on where a class is tells up from down, or left from right

Widths = tuple[int, ...]
Size = tuple[int, int]
# Seconds of a step: of a net (features, patch), and the sides of what it is trained on.
Measure = Callable[[Widths, int, Size], float]


class Candidate(NamedTuple):
    """What decides how long a step takes and what it can see."""

    image_size: Size
    part: float  # of the picture, that a step sees
    crop_size: Size  # that part's sides; (0, 0): all of it
    features: Widths
    patch: int
    trained: Size  # sides of what a step computes, with what the net pads
    views: float  # pictures, or parts of them, that a run sees
    value: float  # the mean IoU that may be hoped for, to compare by


class Pace:
    """Seconds of a step, measured for two sizes of each net and reckoned for all others."""

    def __init__(self, measure: Measure, side: int = 192, most: float = math.inf):
        """side: cells along the larger of the two sizes. most: pixels that a picture may have."""
        self.measure, self.side, self.most = measure, side, most
        self.room = math.inf  # pixels that a step has memory for
        self.lines: dict[tuple[Widths, int], tuple[float, float]] = {}

    def line(self, features: Widths, patch: int) -> tuple[float, float]:
        """What a step takes whatever the size, and for each cell of patch × patch pixels more."""
        net = features, patch
        if net not in self.lines:
            many = max(32, self.side // 32 * 32)
            few = many // 2
            short = self.measure(features, patch, (few * patch, few * patch))
            long = self.measure(features, patch, (many * patch, many * patch))
            each = max(long - short, 0.05 * long) / (many**2 - few**2)
            self.lines[net] = max(0.0, short - each * few**2), each
        return self.lines[net]

    def seconds(self, features: Widths, patch: int, size: Sequence[int]) -> float:
        start, each = self.line(features, patch)
        return start + each * math.prod(size) / patch**2


def widths(base: int, size: Sequence[int], patch: int) -> Widths:
    """Levels until the deepest sees the picture as some eight cells high."""
    levels = 3 if min(size) / patch < 100 else 4
    return tuple(base * 2**i for i in range(levels))


def rounded_up(size: Sequence[int], multiple: int) -> Size:
    height, width = (-(-side // multiple) * multiple for side in size)
    return height, width


def part_size(image_size: Sequence[int], part: float, multiple: int) -> Size:
    """Sides of a part of the picture, such that the net has nothing to pad."""
    if part == 1:
        return (0, 0)
    height, width = image_size
    sides = []
    for side in (height, width):
        wanted = max(LEAST_SIDE / SMALLER, side * math.sqrt(part))
        sides.append(min(side, round(wanted / multiple) * multiple))
    return sides[0], sides[1]


# ---- which is best ----


def kept_at(traits: Traits, image_size: Size) -> float:
    """The mean IoU that a net without mistakes would have at a size."""
    return float(np.nanmean(traits.kept[image_size]))


def is_placed(traits: Traits) -> bool:
    """Whether where in the picture a thing is says something of what it is."""
    return traits.upside_down > PLACED or traits.mirrored > PLACED


def hoped_for(traits: Traits, image_size: Size, patch: int, part: float, views: float) -> float:
    """What may be hoped for, to compare candidates by: what the size leaves, to the third power, as
    what is hardly there is hardly learnt either; less for few views and for squares, the more the
    harder the task is, and for parts that hide where in the picture they are."""
    left = kept_at(traits, image_size) ** 3
    hard = max(EASY, traits.difficulty)
    unlearnt = 0.35 * hard * math.sqrt(FIRST_VIEWS / views)
    coarse = 0.0
    if patch > 1:  # few squares show little
        squares = math.prod(image_size) / patch**2
        coarse = 0.06 * min(1, hard / 0.2) * (3500 / squares) ** 0.7
    blind = (0.03 if is_placed(traits) else 0.005) * math.log2(1 / part)
    return left - unlearnt - coarse - blind


def views_in(
    seconds: float, traits: Traits, pace: Pace, features: Widths, patch: int, sizes: Sequence[Size]
) -> float:
    """What can be seen in the time that judging all pictures leaves; sizes: judged, and trained."""
    judged, trained = (pace.seconds(features, patch, size) / BATCH for size in sizes)
    left = seconds - FORWARD * traits.judged * judged
    return max(left, 0.02 * seconds) / trained


def candidates(traits: Traits, pace: Pace, seconds: float, base: int) -> Iterator[Candidate]:
    """All sizes, squares and parts that there is room for, with the views that fit into so many
    seconds."""
    smallest = list(traits.kept)[-1]
    for image_size in traits.kept:
        if math.prod(image_size) > pace.most and image_size != smallest:
            continue
        for patch in (1, 2):
            features = widths(base, image_size, patch)
            multiple = patch * 2 ** len(features)
            for part in PARTS:
                crop_size = part_size(image_size, part, multiple)
                share = math.prod(crop_size) / math.prod(image_size) if any(crop_size) else 1
                constants = {
                    "image_size": image_size,
                    "crop_size": crop_size,
                    "training_scale": SMALLER,
                    "patch": patch,
                    "features": features,
                    "padded": True,
                }
                trained = rounded_up(training_size(constants), multiple)
                is_part = crop_size != image_size and min(crop_size) * SMALLER >= LEAST_SIDE - 16
                if part < 1 and not is_part:
                    continue
                if math.prod(trained) > pace.room:
                    continue
                sizes = (image_size, trained)
                views = views_in(seconds, traits, pace, features, patch, sizes)
                value = hoped_for(traits, image_size, patch, share, views)
                yield Candidate(
                    image_size, share, crop_size, features, patch, trained, views, value
                )


def best_candidate(traits: Traits, pace: Pace, seconds: float) -> Candidate | None:
    """The best with a narrow net; then as wide a one as still sees enough."""
    found = list(candidates(traits, pace, seconds, BASES[0]))
    if not found:
        return None
    best = narrow = max(found, key=lambda one: one.value)
    for base in BASES[1:]:
        features = tuple(width * base // BASES[0] for width in narrow.features)
        sizes = (best.image_size, best.trained)
        views = views_in(seconds, traits, pace, features, best.patch, sizes)
        if views < ENOUGH_VIEWS:
            break
        best = best._replace(features=features, views=views)
    return best


# ---- in words ----


def as_size(size: Sequence[int]) -> str:
    return f"{size[1]}×{size[0]}"


def differs(now: Candidate, later: Candidate) -> str:
    """What more time would bring, roughly, and by what."""
    parts = []
    if later.image_size != now.image_size:
        parts.append(f"pictures at {as_size(later.image_size)}")
    if later.patch != now.patch:
        unit = "every pixel by itself" if later.patch < now.patch else "squares of 2×2 pixels"
        parts.append(unit)
    if later.part != now.part:
        seen = f"{later.part:.0%} of each at a time"
        if later.part == 1:
            seen = "whole pictures"
        parts.append(seen)
    if later.features != now.features:
        parts.append(f"a net of ({', '.join(map(str, later.features))}) channels")
    parts.append(f"{later.views / now.views:.1f} times as many views of pictures")
    gain = later.value - now.value
    said = f"perhaps {gain:.2f} more" if gain >= 0.005 else "hardly more"
    return f"{said} mean IoU ({'; '.join(parts)})"
