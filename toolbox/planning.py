"""From what a data set is like and how fast a machine is to the constants of a run, each with the
reason and the number behind it. How the rules were found is in docs/results.md."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from toolbox.choosing import ENOUGH_VIEWS, PLACED, SMALLER, Candidate, Pace, as_size, best_candidate
from toolbox.traits import Traits

import numpy as np

RARE = 0.02  # share of the pixels below which a class is met late


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
    smallest = list(traits.kept.values())[-1]
    return int(np.nanargmin(smallest))


def why_size(traits: Traits, size: Sequence[int]) -> str:
    """What is left at a size, and what would be at half of it."""
    half = [side // 2 for side in size]
    name, thin = traits.names[thinnest(traits)], traits.thickness[thinnest(traits)]
    sizes = list(traits.kept)
    nearest = min(sizes, key=lambda one: abs(one[0] - half[0]))
    left, left_at_half = (traits.kept[one][thinnest(traits)] for one in (size, nearest))
    return (
        f"pictures are {as_size(traits.shape)}; half of {name} is in parts no thicker than "
        f"{thin:.0f} pixels, and at {as_size(size)} a net without mistakes would still have its "
        f"IoU at {left:.2f}, at {as_size(nearest)} at {left_at_half:.2f}"
    )


def choose_data(plan: Plan, traits: Traits, best: Candidate, minutes: float) -> None:
    plan.set("image_size", best.image_size, why_size(traits, best.image_size))
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


def choose_augment(plan: Plan, traits: Traits, epochs: float) -> None:
    parts, why = ["zoom"], []
    if traits.mirrored <= PLACED:
        parts.append("flip")
        why.append(f"left and right are alike ({traits.mirrored:.2f} of 1)")
    else:
        why.append(f"left and right differ ({traits.mirrored:.2f} of 1), so no flip")
    if max(traits.upside_down, traits.mirrored) <= PLACED:
        parts += ["vflip", "rotate"]
        why.append(f"so are up and down ({traits.upside_down:.2f}), so that things may be turned")
    else:
        why.append(f"up and down differ ({traits.upside_down:.2f} of 1), so nothing is turned")
    plan.set("augment", "+".join([*parts, "color", "grey"]), "where classes lie: " + "; ".join(why))
    strength = 1.0 if epochs < 20 else 2.0
    plan.set(
        "augment_strength",
        strength,
        f"each picture is seen about {epochs:.0f} times; from 20 on it would be learnt by heart",
    )
    plan.set("weight_decay", 0.1 if epochs >= 10 else 0.01, "for the same reason: 0.01 below 10")


def choose_loss(plan: Plan, traits: Traits) -> None:
    there = np.where(traits.found > 0, traits.share, np.nan)
    rarest = int(np.nanargmin(there))
    share, name = there[rarest], traits.names[rarest]
    plan.set(
        "loss", "ce+dice", "every pixel counts, and every class of a picture as much as others"
    )
    is_rare = share < RARE and len(traits.names) > 2
    plan.set(
        "class_weights",
        0.5 if is_rare else 0.0,
        f"{name} has {share:.1%} of the pixels; classes below {RARE:.0%} are met late without",
    )


def make_plan(traits: Traits, pace: Pace, seconds: float, minutes: float) -> tuple[Plan, Candidate]:
    """All but the number of steps, which a trial on this machine gives."""
    best = best_candidate(traits, pace, seconds)
    plan = Plan()
    choose_data(plan, traits, best, minutes)
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
    epochs = best.views * best.window / traits.pictures
    choose_augment(plan, traits, epochs)
    choose_loss(plan, traits)
    plan.set("base_lr", 0.012, "what camvid_small.py was found to learn best with")
    plan.set("lr_schedule", "cosine", "down to min_lr at the last step: the end is the best")
    plan.set("min_lr", 1e-5, "as above")
    return plan, best
