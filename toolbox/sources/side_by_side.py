"""Pictures and their masks in one folder: cat.jpg and cat_mask.png, or cat.jpg and cat.png."""

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from toolbox.errors import InputError
from toolbox.masks import JPEG
from toolbox.sources.base import ARRAY
from toolbox.sources.layouts import PICTURES, pictures_in

TAIL = re.compile(
    r"[_\-. ](masks?|seg|segmentation|labels?|gt|groundtruth|ground_truth|annotation)$", re.I
)


class Mixed(NamedTuple):
    """What tells masks from pictures: what their stems end in, or else their files' endings."""

    tail: str = ""
    images: frozenset[str] = frozenset(PICTURES)
    masks: frozenset[str] = frozenset(PICTURES)

    def remark(self) -> str:
        if self.tail:
            return f"those whose names end in {self.tail} are taken for the masks"
        return f"of two files of one name the {' or '.join(sorted(self.masks))} is taken for a mask"


def tail_of(stem: str) -> str:
    """What says that a file is a mask, such as _mask, or nothing."""
    found = TAIL.search(stem)
    return found[0] if found else ""


def one_tail(stems: Iterable[str]) -> str:
    """The tail that names have, if there is one and no other."""
    tails = {tail_of(stem) for stem in stems} - {""}
    return tails.pop() if len(tails) == 1 else ""


def by_tail(folder: Path, stems: set[str]) -> Mixed | None:
    """Masks whose stems without their tail are those of pictures."""
    tails: Counter = Counter()
    for stem in stems:
        tail = tail_of(stem)
        if tail and stem.removesuffix(tail) in stems:
            tails[tail] += 1
    if len(tails) > 1:
        raise InputError(
            f"names in {folder} end in {', '.join(sorted(tails))}, and each may be the masks; "
            "leave one kind of mask in the folder"
        )
    return Mixed(tail=tails.popitem()[0]) if tails else None


def by_ending(folder: Path, files: list[Path]) -> Mixed | None:
    """Two files of one stem, of which one can't be a mask: a JPEG; or one can be no picture."""
    endings: dict[str, set[str]] = {}
    for path in files:
        endings.setdefault(path.stem, set()).add(path.suffix.lower())
    kinds = {frozenset(both) for both in endings.values() if len(both) > 1}
    if not kinds:
        return None
    there = frozenset.union(*kinds)
    masks = {ARRAY} if ARRAY in there else there - JPEG
    images = there - masks
    are_told_apart = all(len(both & masks) == 1 == len(both & images) for both in kinds)
    if not are_told_apart or len(masks) > 1 or not images:
        raise InputError(
            f"{folder} has files of one name that end in {', '.join(sorted(there))}, and which of "
            "them are the masks is not to be guessed: call masks NAME_mask, or put pictures into "
            "images and masks into masks"
        )
    every = {path.suffix.lower() for path in files}
    return Mixed(images=frozenset(every - masks), masks=frozenset(masks))


def look_at(folder: Path) -> Mixed | None:
    """How masks are told from pictures here; None where nothing is another's mask."""
    files = pictures_in(folder)
    return by_tail(folder, {path.stem for path in files}) or by_ending(folder, files)
