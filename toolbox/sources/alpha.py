"""Masks whose only content is their transparency: every pixel has one colour."""

from pathlib import Path

from toolbox.cache import remembered
from toolbox.errors import InputError
from toolbox.files import file_facts, fingerprint
from toolbox.masks import opened
from toolbox.sources.base import Source
from toolbox.sources.folder import Folder
from toolbox.values import Table

import numpy as np

WITH_ALPHA = ("LA", "RGBA")
REMARK = (
    "all masks have one colour and differ in their transparency alone: that is read, what is "
    "transparent as 0 and what is opaque as 255"
)


def colors_and_alphas(path: Path) -> tuple[set, set] | None:
    """What a mask holds of both, as far as one can tell after two; None where it has no alpha."""
    with opened(path) as picture:
        if picture.mode not in WITH_ALPHA:
            return None
        *channels, alpha = picture.split()
        ends = tuple(channel.getextrema() for channel in channels)
        return {ends}, {*alpha.getextrema()}


def of_alpha_alone(path: Path) -> np.ndarray | None:
    """Where a mask of one colour is not transparent, bool (H, W), if it is so anywhere."""
    found = colors_and_alphas(path)
    if found is None or 0 not in found[1] or any(low < high for low, high in next(iter(found[0]))):
        return None
    with opened(path) as picture:
        return np.asarray(picture.getchannel("A")) > 127


def hold_alpha_alone(paths: list[Path]) -> bool:
    """Whether all masks have one and the same colour, and differ in their transparency."""
    all_ends, all_alphas = set(), set()
    for path in paths:
        found = colors_and_alphas(path)
        if found is None:
            return False
        all_alphas |= found[1]
        if found[1] == {0}:  # nothing is seen of its colour
            continue
        all_ends |= found[0]
        is_plain = all(low == high for low, high in next(iter(found[0])))
        if not is_plain or len(all_ends) > 1:
            return False
    return len(all_alphas) > 1


class AlphaMasks(Folder):
    """A folder of one's own with such masks: how opaque a pixel is stands for its value."""

    @staticmethod
    def fits(source: Source) -> bool:
        paths = [pair.mask for pair in source.pairs]
        if not paths:
            return False
        try:
            if colors_and_alphas(paths[0]) is None:
                return False
            name = f"alpha-{fingerprint(file_facts(paths))}"
            return remembered(name, lambda: {"is_alone": hold_alpha_alone(paths)})["is_alone"]
        except (InputError, OSError, MemoryError):
            return False  # what can't be read is named with all that is wrong

    def read_mask(self, path: Path, meaning: dict[int, int] | None = None) -> np.ndarray:
        with opened(path) as picture:
            return np.asarray(picture.getchannel("A"))

    def table(self) -> Table:
        if REMARK not in self.notes:
            self.notes.append(REMARK)
        return super().table()
