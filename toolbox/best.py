"""The best weights of a run so far: which they are, and whether the disk still has them."""

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from toolbox.checkpoints import look_into
from toolbox.errors import InputError


def best_of(history: Sequence[dict]) -> int:
    """Which evaluation had the highest validation mean IoU; one that is no number is the lowest,
    and where all are so, it is the last."""
    scores = [row["val_mean_iou"] for row in history]
    scores = [-1 if math.isnan(score) else score for score in scores]
    return scores.index(max(scores)) if max(scores) >= 0 else len(scores) - 1


def is_of(saved: dict, row: dict) -> bool:
    """Whether a checkpoint was made at this evaluation."""
    score = saved.get("metrics", {}).get("val_mean_iou")
    same = repr(score) == repr(row["val_mean_iou"])  # NaN is not equal to itself
    return saved.get("step") == row["step"] and same


def flaw_of_best(path: Path, row: dict, step: int) -> str:
    """Why a best.pth is not the one that the run had left, or nothing.

    A kill may come between the saves of a better one and of last.pth: then it is of a later step.
    """
    if not path.exists():
        return f"{path} is gone"
    try:
        best, _ = look_into(path)
    except InputError as problem:
        return str(problem).partition(";")[0]
    if is_of(best, row) or best.get("step", 0) > step:
        return ""
    return f"{path} is of step {best.get('step')}, and not of the run's best evaluation"


def check_best(run: Path, saved: dict, published: Path) -> None:
    """A run goes on only with its best weights so far: nobody would notice that they are lost."""
    history = saved["resume"]["history"]
    if not history:
        return
    row, path, last = history[best_of(history)], run / "best.pth", run / "last.pth"
    flaw = flaw_of_best(path, row, saved["step"])
    if not flaw:
        return
    advice = (
        f"put a copy of it back, or start a new run. {last} colours pictures too: python "
        f"inference.py checkpoint={last}"
    )
    for copy in (published, last):
        with suppress(InputError):
            if is_of(look_into(copy)[0], row):
                advice = f"{copy} holds the same: copy it to {path}"
                break
    raise InputError(
        f"{flaw}; the run's best weights so far, of step {row['step']}, were in it, and {run} "
        f"can't go on without: {advice}"
    )
