"""What a fold's net got right: kept in the fold's folder for the report of all folds. Where it is,
the fold is done."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from toolbox.errors import InputError
from toolbox.files import write_text
from toolbox.intervals import COUNTED
from toolbox.runs import JUDGED

import torch
from torch import Tensor

LENGTH = "training_iterations"  # a run that is to go on for longer is not done


class Judged(NamedTuple):
    """A fold's confusion matrix (K, K); each picture's place in the split, and its scores."""

    counts: Tensor
    pictures: list[tuple[int, dict]]


def number(value) -> float | None:
    """As JSON holds it: nothing where a class is absent."""
    return None if math.isnan(value) else float(value)


def save_judged(folder: Path, constants: dict, judged: Judged) -> None:
    pictures = []
    for index, scores in sorted(judged.pictures, key=lambda one: one[0]):
        entry = {"index": index, "mean_iou": number(scores["mean_iou"])}
        entry["iou"] = [number(iou) for iou in scores["iou"]]
        for name in COUNTED:
            entry[name] = scores[name].long().tolist()
        pictures.append(entry)
    counts = judged.counts.tolist()
    content = {LENGTH: constants[LENGTH], "counts": counts, "pictures": pictures}
    write_text(folder / JUDGED, json.dumps(content))


def read_judged(folder: Path, constants: dict, rows: Sequence[int]) -> Judged | None:
    """What save_judged wrote of a fold whose pictures are these rows; None where it is not done."""
    path = folder / JUDGED
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text())
        pictures = []
        for entry in content["pictures"]:
            counted = {name: torch.tensor(entry[name]) for name in COUNTED}
            scores = {"mean_iou": entry["mean_iou"], "iou": entry["iou"], **counted}
            pictures.append((entry["index"], scores))
        judged = Judged(torch.tensor(content["counts"]), pictures)
        length = content[LENGTH]
        is_whole = [index for index, _ in pictures] == list(range(len(rows)))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, type(error).__name__) from error
    if not is_whole:
        raise damaged(path, f"it has {len(pictures)} pictures of {len(rows)}")
    return judged if length == constants[LENGTH] else None


def damaged(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} is damaged ({found}); take it away and go on: then the fold is judged again"
    )
