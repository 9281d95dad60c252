"""What no file shows by itself: pictures in two splits, classes without pixels, splits that say
little, pictures that viewers turn."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from toolbox.cache import remembered
from toolbox.depths import ranges_of
from toolbox.errors import InputError, few
from toolbox.files import file_facts, fingerprint
from toolbox.findings import Cause, FileInputError
from toolbox.masks import EXIF, turned
from toolbox.processes import all_cores
from toolbox.values import IGNORE

import numpy as np

TWICE = Cause("pictures stand in two splits", "take one of each two out")
EMPTY = Cause("classes have no pixel", "take their rows out of classes.csv, or mend the masks")
MUCH_IGNORED = 0.05  # of all pixels
LOST = 0.25  # of the masks that have a class
FEW = 3  # pairs, of which one or two are judged
NAMED = 5  # classes, in one line

Counts = Mapping[str, np.ndarray]  # of each split: the pixels of each class id (256,)


# ---- problems ----


def same_pictures(
    images: Sequence[Path], splits: Mapping[str, Sequence[int]], digests: Sequence[int]
) -> list[FileInputError]:
    """Pictures that stand in two splits under two names."""
    found, first = [], {}
    for split, rows in splits.items():
        for row in rows:
            other, where = first.setdefault(int(digests[row]), (row, split))
            if where != split:
                about = (
                    f"{images[row]} in {split} is the same picture as {images[other]} in {where}"
                )
                found.append(FileInputError(f"{about}; take one of them out", TWICE, about))
    return found


def empty_classes(names: Sequence[str], pixels: np.ndarray) -> list[FileInputError]:
    """Classes of which no mask has a pixel; pixels (N, 256)."""
    found = []
    for i, name in enumerate(names):
        if not pixels[:, i].any():
            sentence = (
                f"no mask has a pixel of class {i} {name}; take its row out of classes.csv, or "
                "mend the masks"
            )
            found.append(FileInputError(sentence, EMPTY, f"{i} {name}"))
    return found


# ---- notes ----


def notes_on_splits(names: Sequence[str], counts: Counts) -> list[str]:
    """Where a split's scores say less than they seem to."""
    notes = []
    has = {split: pixels[: len(names)] > 0 for split, pixels in counts.items()}
    for split, present in has.items():
        lacking = [name for name, here, there in zip(names, present, has["train"]) if there > here]
        unlearnt = [name for name, here, there in zip(names, present, has["train"]) if here > there]
        if not present.any():
            notes.append(f"{split} has no pixel with a class: its scores stay empty")
        elif present.sum() == 1:
            notes.append(
                f"{split} holds nothing but {names[present.argmax()]}: answering that everywhere "
                "scores 1.0 there, so its scores say nothing"
            )
        elif lacking:
            notes.append(
                f"{split} has no pixel of {few(lacking, NAMED)}, which train has: unjudged"
            )
        if unlearnt and has["train"].any():
            notes.append(
                f"train has no pixel of {few(unlearnt, NAMED)}, which {split} has: unlearnt"
            )
    return notes


def note_on_few(splits: Mapping[str, Sequence[int]]) -> list[str]:
    """What a score is worth where there is next to nothing to judge by."""
    count = sum(map(len, splits.values()))
    if count > FEW:
        return []
    judged = list(splits)[-1]
    return [
        f"{count} pairs are very few: the scores come from {len(splits[judged])} picture in "
        f"{judged}, and say little of any other. They show that all is read and learnt; label "
        "twenty or more before trusting them"
    ]


def note_on_ignored(counts: Counts) -> list[str]:
    """Much that is ignored by custom, without a table that says so."""
    pixels = sum(counts.values())
    share = pixels[IGNORE] / pixels.sum()
    if share <= MUCH_IGNORED:
        return []
    return [
        f"255, {share:.1%} of the pixels, is ignored, as it is in no class table; if it is an "
        "object, write a classes.csv with a column value and a row for it"
    ]


# ---- pictures that are turned as their EXIF note says ----


def turned_pictures(images: Sequence[Path]) -> dict[int, int]:
    """Rows of pictures that viewers turn, and how; remembered for unchanged files."""

    def look() -> dict[int, int]:
        with ThreadPoolExecutor(all_cores()) as threads:
            turns = enumerate(threads.map(turned, images))
            return {row: turn for row, turn in turns if turn in range(2, 9)}

    found = remembered(f"turned-{fingerprint(file_facts(images))}", look)
    return {int(row): turn for row, turn in found.items()}


def note_on_ranges(images: Sequence[Path]) -> list[str]:
    """Files of 16 bits whose highest pixels lie in several ranges: what is white differs."""
    name = f"depths-{fingerprint(file_facts(images))}"
    found = remembered(name, lambda: ranges_of(images))
    if len(found) < 2:
        return []
    shown = ", ".join(f"{count} up to {most}" for most, count in found.items())
    return [
        f"pictures of 16 bits use several ranges ({shown}), and each is made as light as its own: "
        "if they are of one camera, bring all of them to 8 bits alike"
    ]


def notes_on_lost(names: Sequence[str], pixels: np.ndarray, small: np.ndarray) -> list[str]:
    """Classes that many masks lose where they are resized; pixels of each (N, 256), small (N, H,
    W)."""
    notes = []
    for i, name in enumerate(names):
        there = np.flatnonzero(pixels[:, i])
        lost = sum(not (small[row] == i).any() for row in there)
        if lost > LOST * len(there):
            height, width = small.shape[1:]
            notes.append(
                f"{lost} of {len(there)} masks with {name} keep no pixel of it at "
                f"{width}×{height}: a larger image_size keeps more"
            )
    return notes


def note_on_turned(images: Sequence[Path], sizes: np.ndarray) -> list[str]:
    """Whether masks of such pictures are known to be turned alike; sizes (N, 2) are the masks'."""
    turns = turned_pictures(images)
    if not turns:
        return []
    names = ", ".join([images[row].name for row in turns][:3])
    found = f"{len(turns)} pictures are turned by their EXIF note (such as {names})"
    quarters = [row for row, turn in turns.items() if turn >= 5]
    if any(sizes[row][0] != sizes[row][1] for row in quarters):
        return [f"{found}, and masks have the sizes of the turned ones"]
    return [
        f"{found}; sizes don't show whether their masks lie as viewers show the pictures: look at "
        "the samples"
    ]


def cause_in_turning(problems: Sequence[InputError | str], images: Sequence[Path]) -> list[str]:
    """Where masks fit some pictures before these are turned, others may lie so unseen."""
    seen = sum(getattr(problem, "cause", None) == EXIF for problem in problems)
    count = len(turned_pictures(images)) if seen else 0
    if count <= seen:
        return []
    return [
        f"{count} pictures are turned by their EXIF note; of half turns and squares sizes don't "
        "show how their masks lie: treat all alike"
    ]
