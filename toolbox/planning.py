"""From what a data set is like and how fast a machine is to the constants of a run, each with the
reason and the number behind it."""

import math
from dataclasses import dataclass, field

from toolbox.choosing import (
    BASES,
    ENOUGH_VIEWS,
    PLACED,
    SMALLER,
    Candidate,
    as_size,
)
from toolbox.traits import Traits

import numpy as np

RARE = 0.02  # share of the pixels below which one class of several is met late


@dataclass
class Plan:
    """Constants with their reasons, in the order in which they are written."""

    constants: dict[str, object] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def set(self, name: str, value: object, reason: str) -> None:
        self.constants[name] = value
        self.reasons[name] = reason


def thinnest(traits: Traits) -> int:
    """The class that shrinking takes the most from."""
    over_all_sizes = np.mean(list(traits.kept.values()), axis=0)
    return int(np.nanargmin(over_all_sizes))


def why_size(traits: Traits, best: Candidate) -> str:
    """What is left at a size, and what would be at half of it."""
    thin = thinnest(traits)
    name, size, thick = traits.names[thin], best.image_size, traits.thickness[thin]
    at_half = min(traits.kept, key=lambda one: abs(one[0] - size[0] / 2))
    words = (
        f"pictures are typically {as_size(traits.shape)}; {name}, which shrinking hurts most, is "
        f"about {thick:.0f} pixel{'' if round(thick) == 1 else 's'} thick; a net without mistakes "
        f"would have it at IoU {traits.kept[size][thin]:.2f} at this size"
    )
    if at_half != size:
        words += f", and at {as_size(at_half)} at {traits.kept[at_half][thin]:.2f}"
    return words


def set_sizes(plan: Plan, traits: Traits, best: Candidate) -> None:
    plan.set("image_size", best.image_size, why_size(traits, best))
    if best.part < 1:
        plan.set(
            "crop_size",
            best.crop_size,
            f"a step sees {best.part:.0%} of a picture: whole ones at this size would be seen too "
            "seldom in the time; judging and inference see all of it",
        )
    plan.set(
        "training_scale",
        SMALLER,
        "zoom shows things larger than whole pictures do, so the net learns on smaller ones, which "
        "takes less time too",
    )


def set_net(plan: Plan, best: Candidate) -> None:
    cells = [side // best.patch // 2 ** len(best.features) for side in best.trained]
    wider = f"a wider net would see fewer than {ENOUGH_VIEWS:,} pictures in the time"
    if best.features[0] == BASES[-1]:
        wider = "no wider net is tried"
    plan.set(
        "features",
        best.features,
        f"{len(best.features)} levels: the deepest sees {cells[1]}×{cells[0]} cells; {wider}",
    )
    why = "there is time for every pixel by itself"
    if best.patch > 1:
        why = "squares of 2×2 pixels are one cell: four times the pixels in about the time"
    plan.set("patch", best.patch, why)


def alike(unlikeness: float, one: str, other: str) -> str:
    if math.isnan(unlikeness):
        return f"too few masks to tell whether {one} and {other} are alike"
    verb = "differ" if unlikeness > PLACED else "are alike"
    return (
        f"{one} and {other} {verb} ({unlikeness:.2f}, where 0 is the same and {PLACED} the limit)"
    )


def set_augment(plan: Plan, traits: Traits) -> None:
    parts = ["zoom"]
    if not traits.mirrored > PLACED:
        parts.append("flip")
    if traits.upside_down <= PLACED and traits.mirrored <= PLACED:
        parts += ["vflip", "rotate"]
    plan.set(
        "augment",
        "+".join([*parts, "color", "grey"]),
        f"where the classes lie: {alike(traits.mirrored, 'left', 'right')}; "
        f"{alike(traits.upside_down, 'up', 'down')}. Take flip out if mirrored things are others",
    )


def set_strength(plan: Plan, epochs: float) -> None:
    seen = f"each picture is seen {epochs:.0f} times"
    strong = epochs >= 20
    why = "from 20 times on it would be learnt by heart" if strong else "less than 20 are few"
    strength = 2.0 if strong else 1.0
    plan.set("augment_strength", strength, f"{seen}, and {why}")
    long = epochs >= 10
    why = "from 10 on this is against learning by heart" if long else "less than 10 are few"
    decay = 0.1 if long else 0.01
    plan.set("weight_decay", decay, f"{seen}, and {why}")


def set_loss(plan: Plan, traits: Traits) -> None:
    there = np.where(traits.share > 0, traits.share, np.nan)
    rarest = int(np.nanargmin(there))
    name, share = traits.names[rarest], there[rarest]
    plan.set(
        "loss",
        "ce+dice",
        "ce counts every pixel alike, dice every class of a picture, however rare",
    )
    weight, why = 0.0, f"the rarest class, {name}, has {share:.1%} of the pixels: enough"
    if len(traits.names) == 2:
        why = "of two classes dice alone sees to the rarer"
    elif share < RARE:
        weight = 0.5
        why = f"{name} has {share:.1%} of the pixels; below {RARE:.0%} a class is met late without"
    plan.set("class_weights", weight, why)


def set_rate(plan: Plan) -> None:
    plan.set("base_lr", 0.012, "what recipes/camvid_small.py was found to learn best with")
    plan.set("lr_schedule", "cosine", "slowly down to min_lr, so that the end is the best")
    plan.set("min_lr", 0.003, "a quarter of base_lr: the weights still move, for the average below")
    plan.set(
        "ema_decay",
        0.99,
        "the average of the last hundred steps' weights is judged and kept: as good as weights "
        "that have come to rest, or 0.004 better (docs/results.md)",
    )


def make_plan(traits: Traits, best: Candidate) -> Plan:
    """All but what hangs on the number of steps, which a trial on this machine gives."""
    plan = Plan()
    set_sizes(plan, traits, best)
    set_net(plan, best)
    set_augment(plan, traits)
    set_loss(plan, traits)
    set_rate(plan)
    return plan
