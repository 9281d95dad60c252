"""What is likely to be wrong with a run so far, each with the setting to change: one function a
rule."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass
class Facts:
    """What the rules look at."""

    constants: dict
    names: Sequence[str]  # of the classes
    counts: dict[str, np.ndarray]  # pixels of each class in each split
    step: int
    history: list[dict]  # the evaluations
    losses: list[float]  # of each step since the start or the last resuming
    rates: list[float]  # planned for all steps, where none was taken yet
    only_class: int  # the one that all validation pixels were taken for, or -1


def absent(facts: Facts) -> str:
    """A class that can't be learnt."""
    everywhere = sum(facts.counts.values())
    lacking = (facts.counts["train"] == 0) & (everywhere > 0)
    if not lacking.any():
        return ""
    names = ", ".join(name for name, lacks in zip(facts.names, lacking) if lacks)
    return (
        f"the training split has no pixel of {names}, which other splits have: it can't be learnt; "
        "try another seed, or move pictures"
    )


def at_floor(facts: Facts) -> str:
    """A learning rate that is at its lowest for most of the run."""
    base_lr, min_lr = facts.constants["base_lr"], facts.constants["min_lr"]
    if facts.step or base_lr == min_lr:
        return ""
    if base_lr < min_lr:
        return (
            f"base_lr is {base_lr:g}, and the learning rate is never below min_lr, {min_lr:g}: "
            "it is that in all steps; lower min_lr too"
        )
    warm = facts.constants["warmup_steps"]
    late = [i + 1 for i, rate in enumerate(facts.rates) if i >= warm and rate <= min_lr * 1.000001]
    total = facts.constants["training_iterations"]
    if len(late) <= total / 2:
        return ""
    return (
        f"the learning rate is at min_lr from step {late[0]} of {total} on; raise decay_factor, or "
        "set it to 0, with which the rate falls until the last step"
    )


def standing_still(facts: Facts) -> str:
    """A loss that has not moved in the first tenth of the run."""
    tenth = facts.constants["training_iterations"] // 10
    if tenth < 20 or facts.step < tenth or len(facts.losses) != facts.step:
        return ""
    part = tenth // 5
    first, then = np.mean(facts.losses[:part]), np.mean(facts.losses[tenth - part : tenth])
    if then <= 0.98 * first:
        return ""
    return (
        f"the loss has not moved in the first tenth of the run ({first:.3f} to {then:.3f}): raise "
        "base_lr, or look whether masks fit their images (python dataset.py)"
    )


def single_class(facts: Facts) -> str:
    """A net that takes everything for one class."""
    if facts.only_class < 0 or facts.step <= facts.constants["training_iterations"] // 10:
        return ""
    return (
        f"every pixel of the validation pictures is taken for {facts.names[facts.only_class]}: "
        "nothing else is learnt yet; train longer, or try class_weights=0.5"
    )


def learnt_by_heart(facts: Facts) -> str:
    """Training pictures that score far above validation's."""
    late = facts.history[-max(3, len(facts.history) // 3) :]
    gaps = [row["train_mean_iou"] - row["val_mean_iou"] for row in late]
    if len(late) < 3 or not all(gap > 0.2 for gap in gaps):
        return ""
    train, val = late[-1]["train_mean_iou"], late[-1]["val_mean_iou"]
    return (
        f"training is far above validation (mean IoU {train:.2f} against {val:.2f}) since step "
        f"{late[0]['step']} at least: the training pictures are learnt by heart; try "
        "augment_strength=2, weight_decay=0.1 where it is less, or more pictures"
    )


RULES = (absent, at_floor, standing_still, single_class, learnt_by_heart)


class Adviser:
    """Says each warning once."""

    def __init__(self):
        self.said: set[str] = set()

    def new_warnings(self, facts: Facts) -> list[str]:
        found = []
        for rule in RULES:
            sentence = rule(facts)
            if sentence and rule.__name__ not in self.said:
                self.said.add(rule.__name__)
                found.append(f"warning: {sentence}")
        return found


def explain_not_finite(
    step: int, rate: float, loss: float, norm: float, precision: str, files: Sequence[str]
) -> str:
    """The sentence for a step whose loss or gradient is no number."""
    if np.isfinite(loss):
        what = f"gradient's length is {norm}"
    else:
        what = f"loss is {loss}"
    if precision == "fp32":
        cause = f"the learning rate {rate:.1e} is likely too high: start again with a lower base_lr"
    else:
        cause = (
            f"{precision} is likely too coarse: go on with precision=fp32, or start again with a "
            "lower base_lr"
        )
    more = " …" if len(files) > 16 else ""
    return (
        f"the {what} at step {step}, which was not taken; {cause}. Its pictures: "
        f"{', '.join(files[:16])}{more}. The run's last.pth holds sound weights of before"
    )
