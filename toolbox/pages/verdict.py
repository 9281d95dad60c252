"""A run's figures in words: what is weak, whether training should have gone on, what to try. Each
rule is plain, and says the numbers that it goes by."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from toolbox.pages.markup import called, percent
from toolbox.runs import depends_on_length

import numpy as np

RISING = 0.01  # mean IoU in the last third of a run: it was not done
STILL = 0.003  # less than this is standing still
BY_HEART = 0.2  # that training is above validation, as in the warnings while the run goes on
AHEAD = 0.1
BEHIND = 0.1  # mean IoU, that a weak class is below it
RARE = 0.02  # of all pixels
CONFUSED = 0.1  # of a class's pixels, taken for one other class
FEW_PICTURES = 20
FEW_EVALUATIONS = 4


class Outcome(NamedTuple):
    """What a run came to."""

    constants: dict
    history: list[dict]  # its evaluations
    best: int  # which of them is kept
    names: list[str]  # of the classes
    counts: np.ndarray  # the confusion matrix of the split that judges, (K, K)
    scores: dict  # of that split, as report.json has them
    split: str  # its name
    pictures: int  # in it
    trained_on: np.ndarray  # pixels of each class in training, (K,)
    scale: float  # pixels at image_size for one on disk, along a side

    def present(self) -> list[int]:
        """Classes that are judged, the weakest first."""
        scores = [entry["iou"] for entry in self.scores["classes"]]
        there = [i for i, score in enumerate(scores) if score is not None]
        return sorted(there, key=lambda i: scores[i])

    def iou(self, i: int) -> float:
        return self.scores["classes"][i]["iou"]


# ---- what is weak ----


def taken_for(counts: np.ndarray, i: int) -> tuple[int, float]:
    """The class that most of a class's missed pixels are taken for, and their share of it."""
    row = counts[i].astype(float)
    missed = row.copy()
    missed[i] = 0
    return int(missed.argmax()), float(missed.max() / max(1, row.sum()))


def made_of(counts: np.ndarray, i: int) -> tuple[int, float]:
    """The class that most pixels wrongly taken for this one are of, and their share of it."""
    return taken_for(counts.T, i)


def weak_class(found: Outcome, i: int) -> str:
    """A class's score, and what it is confused with."""
    name, counts = called(found.names[i]), found.counts
    if counts[i, i] == 0:
        other, share = taken_for(counts, i)
        if not found.trained_on[i]:
            return f"{name} was in no training picture, and is never found"
        instead = called(found.names[other])
        return f"{name} is never found: {percent(share)} of it is taken for {instead}"
    parts = []
    other, share = taken_for(counts, i)
    if share >= 0.01:
        parts.append(f"{percent(share)} of its pixels are taken for {called(found.names[other])}")
    other, share = made_of(counts, i)
    if share >= 0.01:
        really = called(found.names[other])
        parts.append(f"{percent(share)} of the pixels that are called {name} are {really}")
    return f"{name} has IoU {found.iou(i):.2f}" + (f": {', and '.join(parts)}" if parts else "")


def what_is_weak(found: Outcome) -> str:
    present = found.present()
    if not present:
        return f"The {found.split} pictures have no pixel with a class: nothing could be judged."
    spread = found.iou(present[-1]) - found.iou(present[0])
    if len(present) == 1:
        name = called(found.names[present[0]])
        return f"Only {name} is in the {found.split} pictures, so the score says little."
    if found.iou(present[-1]) < 0.05:
        return "Nothing is learnt yet: no class has an IoU of 0.05 or more."
    if spread < 0.05:
        lowest = found.iou(present[0])
        words = f"No class falls behind: all have IoU {lowest:.2f} or more. The lowest: "
        return f"{words}{weak_class(found, present[0])}."
    behind = [i for i in present if found.iou(i) < found.scores["mean_iou"] - BEHIND]
    weak = [weak_class(found, i) for i in behind[:4] or present[:1]]
    return f"The weakest: {'. Then '.join(weak)}."


# ---- whether training should have gone on ----


def number_of(row: dict, key: str) -> float:
    value = row[key]
    return value if math.isfinite(value) else 0.0


def late_rise(history: Sequence[dict]) -> float:
    """How far the last third of the evaluations got above what was best before it."""
    scores = [number_of(row, "val_mean_iou") for row in history]
    start = len(scores) - max(1, len(scores) // 3)
    return max(scores[start:]) - max(scores[:start])


def gap_of(found: Outcome) -> float:
    """How far training is above validation at the end."""
    row = found.history[-1]
    return number_of(row, "train_mean_iou") - number_of(row, "val_mean_iou")


def is_by_heart(found: Outcome) -> bool:
    """Training far above validation, or validation falling since long before the end."""
    if not found.history:
        return False
    last, best = found.history[-1], found.history[found.best]
    is_early = best["step"] <= 0.6 * last["step"]
    fallen = number_of(best, "val_mean_iou") - number_of(last, "val_mean_iou")
    is_falling = is_early and fallen > RISING and gap_of(found) > RISING
    return gap_of(found) > BY_HEART or is_falling


def is_rising(found: Outcome) -> bool:
    enough = len(found.history) >= FEW_EVALUATIONS
    return enough and not is_by_heart(found) and late_rise(found.history) >= RISING


def gap_in_words(found: Outcome) -> str:
    last = found.history[-1]
    train, val = number_of(last, "train_mean_iou"), number_of(last, "val_mean_iou")
    pair = f"mean IoU {train:.2f} on training pictures, {val:.2f} on validation at the end"
    if gap_of(found) > BY_HEART:
        return (
            f"Training is far above validation ({pair}): the pictures are learnt by heart "
            "(overfitting)."
        )
    if gap_of(found) > AHEAD:
        return f"Training is ahead of validation ({pair}): it begins to learn them by heart."
    if gap_of(found) < -RISING:
        return (
            f"Validation is above training ({pair}): its pictures are the easier ones, by chance "
            "or by choice, and nothing is learnt by heart."
        )
    return f"Training and validation stay together ({pair}): little is learnt by heart."


def flat_end(found: Outcome) -> str:
    """Why a curve that ends flat does not say that all is learnt."""
    constants = found.constants
    if not depends_on_length(constants) or constants["min_lr"] > 0.05 * constants["base_lr"]:
        return ""
    return ", however flat its end: the learning rate is next to nothing by then"


def should_it_go_on(found: Outcome) -> str:
    history = found.history
    if not history:
        return "There was no evaluation, so nothing shows how training went; lower eval_interval."
    last, best = history[-1], history[found.best]
    if len(history) < FEW_EVALUATIONS:
        words = (
            f"With {len(history)} evaluation(s) it can't be told; lower eval_interval to see it."
        )
    elif is_by_heart(found):
        words = (
            f"No: validation was best at step {best['step']:,} of {last['step']:,}, and longer "
            "training would learn the training pictures, not the task."
        )
    elif is_rising(found):
        words = (
            f"Probably: validation gained {late_rise(history):.3f} mean IoU in the last third of "
            f"the evaluations{flat_end(found)}."
        )
    elif late_rise(history) <= STILL:
        words = (
            f"No: validation stands still; its best was step {best['step']:,} of {last['step']:,}."
        )
    else:
        words = (
            f"It would gain little: validation rose by {late_rise(history):.3f} mean IoU in the "
            "last third of the evaluations."
        )
    return f"{words} {gap_in_words(found)}"
