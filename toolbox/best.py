"""The best weights of a run so far: which they are, and whether the disk still has them."""

import math
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from toolbox.checkpoints import look_into
from toolbox.errors import InputError


def score_of(row: dict) -> float:
    """An evaluation's validation mean IoU; one that is no number is the lowest."""
    return -1 if math.isnan(row["val_mean_iou"]) else row["val_mean_iou"]


def best_of(history: Sequence[dict]) -> int:
    """Which evaluation had the highest validation mean IoU, of several the lowest loss (val may
    have one class, and be right from the start), and of these the last."""

    def worth(i: int) -> tuple[float, float, int]:
        loss = history[i]["val_loss"]
        return score_of(history[i]), -math.inf if math.isnan(loss) else -loss, i

    return max(range(len(history)), key=worth)


def since_rise(history: Sequence[dict]) -> int:
    """How many evaluations there were since validation mean IoU rose last."""
    scores = [*map(score_of, history)]
    if max(scores, default=-1) < 0:
        return 0
    return len(scores) - 1 - scores.index(max(scores))


def is_as_good(saved: dict, row: dict) -> bool:
    """Whether a checkpoint has this evaluation's score."""
    score = saved.get("metrics", {}).get("val_mean_iou")
    return repr(score) == repr(row["val_mean_iou"])  # NaN is not equal to itself


def is_of(saved: dict, row: dict) -> bool:
    """Whether a checkpoint was made at this evaluation."""
    return saved.get("step") == row["step"] and is_as_good(saved, row)


def flaw_of_best(path: Path, row: dict, step: int) -> str:
    """Why a best.pth is not the one that the run had left, or nothing.

    A kill may come between the saves of a better one and of last.pth: then it is of a later step.
    Of one as good the step may be another: earlier versions kept the first of such.
    """
    if not path.exists():
        return f"{path} is gone"
    try:
        best, _ = look_into(path)
    except InputError as problem:
        return str(problem).partition(";")[0]
    if is_as_good(best, row) or best.get("step", 0) > step:
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
