"""From what a data set is like and how fast a machine is to the constants of a run, each with the
reason and the number behind it. How the rules were found is in docs/results.md."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from toolbox.looking import Looks

import numpy as np

BASES = (16, 24, 32, 48, 64)  # channels of the first level
WINDOWS = (1.0, 0.5, 0.25, 0.125)  # shares of a picture that a step may see
SMALLER = 0.83  # training_scale beside zoom, which shows things larger than whole pictures do
BATCH = 4
ENOUGH_VIEWS = 16_000  # pictures or windows seen, from which on a wider net learns more
PLACED = 0.1  # from here on where a class is tells up from down, or left from right
RARE = 0.02  # share of the pixels below which a class is met late

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


@dataclass
class Plan:
    """Constants with their reasons, in the order in which they are written."""

    constants: dict[str, object] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def set(self, name: str, value: object, reason: str) -> None:
        self.constants[name] = value
        self.reasons[name] = reason


class Pace:
    """Seconds of a step, measured for two sizes of each net and reckoned for all others."""

    def __init__(self, measure: Measure, side: int = 512):
        """side: of the pictures; what is larger is not measured."""
        self.measure = measure
        self.side = side
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


def kept_at(looks: Looks, image_size: Sequence[int]) -> float:
    """The mean IoU that a net without mistakes would have at a size, between those measured."""
    area = math.log(math.prod(image_size))
    areas = [math.log(math.prod(size)) for size in looks.kept]
    means = [float(np.nanmean(kept)) for kept in looks.kept.values()]
    return float(np.interp(area, areas[::-1], means[::-1]))


def hoped_for(looks: Looks, image_size: Sequence[int], patch: int, window: float, views: float):
    """What may be hoped for, to compare candidates by: what the size leaves, squared, as what is
    hardly there is hardly learnt either; less for few views, for squares, and for windows that hide
    where in the picture they are."""
    left = kept_at(looks, image_size) ** 2
    kinds = len(looks.names)
    unlearnt = 0.04 * math.sqrt(kinds) * (1000 / views) ** 0.5
    coarse = 0.0
    if patch > 1:  # few of them show little
        coarse = 0.06 * (4 * 3500 / math.prod(image_size)) ** 0.7
    lost = 0.03 if max(looks.upside_down, looks.mirrored) > PLACED else 0.005
    blind = lost * math.log2(1 / window)
    return left - unlearnt - coarse - blind


def candidates(looks: Looks, pace: Pace, seconds: float, base: int) -> Iterator[Candidate]:
    """All sizes, squares and windows, with the views that fit into so many seconds."""
    for image_size in looks.kept:
        for patch in (1, 2):
            for window in WINDOWS:
                features = widths(base, image_size, patch)
                multiple = patch * 2 ** len(features)
                share = window * SMALLER**2
                trained = trained_size(image_size, share, multiple)
                if window < 1 and min(trained) < 96:
                    continue
                views = BATCH * seconds / pace.seconds(features, patch, trained)
                value = hoped_for(looks, image_size, patch, window, views)
                yield Candidate(image_size, window, features, patch, trained, views, value)


def best_candidate(looks: Looks, pace: Pace, seconds: float) -> Candidate:
    """The best with a narrow net; then as wide a one as still sees enough."""
    best = max(candidates(looks, pace, seconds, BASES[0]), key=lambda one: one.value)
    for base in BASES[1:]:
        features = tuple(width * base // BASES[0] for width in best.features)
        views = BATCH * seconds / pace.seconds(features, best.patch, best.trained)
        if views >= ENOUGH_VIEWS:
            best = best._replace(features=features, views=views)
    return best


# ---- the constants ----


def as_size(size: Sequence[int]) -> str:
    return f"{size[1]}×{size[0]}"


def thinnest(looks: Looks) -> int:
    """The class that shrinking takes the most from."""
    smallest = list(looks.kept.values())[-1]
    return int(np.nanargmin(smallest))


def why_size(looks: Looks, size: Sequence[int]) -> str:
    """What is left at a size, and what would be at half of it."""
    half = [side // 2 for side in size]
    name, thin = looks.names[thinnest(looks)], looks.thickness[thinnest(looks)]
    sizes = list(looks.kept)
    nearest = min(sizes, key=lambda one: abs(one[0] - half[0]))
    left, left_at_half = (looks.kept[one][thinnest(looks)] for one in (size, nearest))
    return (
        f"pictures are {as_size(looks.shape)}; half of {name} is in parts no thicker than "
        f"{thin:.0f} pixels, and at {as_size(size)} a net without mistakes would still have its "
        f"IoU at {left:.2f}, at {as_size(nearest)} at {left_at_half:.2f}"
    )


def choose_data(plan: Plan, looks: Looks, best: Candidate, minutes: float) -> None:
    plan.set("image_size", best.image_size, why_size(looks, best.image_size))
    shown = f"{best.views:,.0f}"
    if best.window < 1:
        sides = tuple(min(a, round(b / SMALLER)) for a, b in zip(best.image_size, best.trained))
        plan.set(
            "crop_size",
            sides,
            f"a step sees windows of about {best.window:.0%} of a picture, {shown} of them in "
            f"{minutes:g} minutes; whole pictures of this size would be too few for the time",
        )
    plan.set(
        "training_scale",
        SMALLER,
        "zoom shows things larger than whole pictures do; a step takes three quarters of the time",
    )


def choose_augment(plan: Plan, looks: Looks, epochs: float) -> None:
    parts, why = ["zoom"], []
    if looks.mirrored <= PLACED:
        parts.append("flip")
        why.append(f"left and right are alike ({looks.mirrored:.2f} of 1)")
    else:
        why.append(f"left and right differ ({looks.mirrored:.2f} of 1), so no flip")
    if max(looks.upside_down, looks.mirrored) <= PLACED:
        parts += ["vflip", "rotate"]
        why.append(f"so are up and down ({looks.upside_down:.2f}), so that things may be turned")
    else:
        why.append(f"up and down differ ({looks.upside_down:.2f} of 1), so nothing is turned")
    plan.set("augment", "+".join([*parts, "color", "grey"]), "where classes lie: " + "; ".join(why))
    strength = 1.0 if epochs < 20 else 2.0
    plan.set(
        "augment_strength",
        strength,
        f"each picture is seen about {epochs:.0f} times; from 20 on it would be learnt by heart",
    )
    plan.set("weight_decay", 0.1 if epochs >= 10 else 0.01, "for the same reason: 0.01 below 10")


def choose_loss(plan: Plan, looks: Looks) -> None:
    there = np.where(looks.found > 0, looks.share, np.nan)
    rarest = int(np.nanargmin(there))
    share, name = there[rarest], looks.names[rarest]
    plan.set(
        "loss", "ce+dice", "every pixel counts, and every class of a picture as much as others"
    )
    is_rare = share < RARE and len(looks.names) > 2
    plan.set(
        "class_weights",
        0.5 if is_rare else 0.0,
        f"{name} has {share:.1%} of the pixels; classes below {RARE:.0%} are met late without",
    )


def make_plan(looks: Looks, pace: Pace, seconds: float, minutes: float) -> tuple[Plan, Candidate]:
    """All but the number of steps, which a trial on this machine gives."""
    best = best_candidate(looks, pace, seconds)
    plan = Plan()
    choose_data(plan, looks, best, minutes)
    cells = [side // best.patch // 2 ** len(best.features) for side in best.trained]
    plan.set(
        "features",
        best.features,
        f"{len(best.features)} levels: the deepest sees {cells[1]}×{cells[0]} cells of what is "
        f"trained on; wider where {ENOUGH_VIEWS:,} views are left, here {best.views:,.0f}",
    )
    plan.set(
        "patch",
        best.patch,
        "squares of 2×2 pixels as one: four times the pixels in about the time"
        if best.patch > 1
        else "there is time for every pixel by itself",
    )
    epochs = best.views * best.window / looks.pictures
    choose_augment(plan, looks, epochs)
    choose_loss(plan, looks)
    plan.set("base_lr", 0.012, "what camvid_small.py was found to learn best with")
    plan.set("lr_schedule", "cosine", "down to min_lr at the last step: the end is the best")
    plan.set("min_lr", 1e-5, "as above")
    return plan, best


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
