"""A folder for each picture, with one mask for each object: p1/images/p1.png, p1/masks/*.png."""

import itertools
from functools import cached_property
from pathlib import Path

from toolbox.errors import few
from toolbox.files import file_facts, fingerprint
from toolbox.sources.base import Pair
from toolbox.sources.folder import Folder
from toolbox.sources.layouts import Layout, object_folders, pictures_in
from toolbox.sources.per_class import check_same_size, is_class

import numpy as np


class PerObject(Folder):
    """As the nuclei of the Data Science Bowl lie: all objects of a picture are one class."""

    def __init__(self, root: Path, name: str = ""):
        super().__init__(root, name)
        self.parts: dict[Path, list[Path]] = {}  # of each pair's mask: all of its picture

    @staticmethod
    def fits(source: Folder) -> bool:
        return bool(object_folders(source.root))

    @cached_property
    def layouts(self) -> list[Layout]:
        return [Layout("", self.root, self.root, is_usual=False)]

    def find_pairs(self) -> list[Pair]:
        pairs, bare = [], []
        for folder in object_folders(self.root):
            image, beside = pictures_in(folder / "images")[0], folder / "masks"
            masks = pictures_in(beside) if beside.is_dir() else []
            if masks:
                self.parts[masks[0]] = masks
                pairs.append(Pair(image, masks[0]))
            else:
                bare.append(image.name)
        count = sum(map(len, self.parts.values()))
        self.notes.append(
            f"each picture has a folder, with a mask for each object: {count} masks of "
            f"{len(pairs)} pictures; all are one class"
        )
        if bare:
            self.notes.append(f"{len(bare)} picture(s) without any mask left out: {few(bare)}")
        return pairs

    def read_mask(self, path: Path, meaning: dict[int, int] | None = None) -> np.ndarray:
        """1 where any object is."""
        mask = is_class(path).astype(np.int32)
        for part in self.parts[path][1:]:
            where = is_class(part)
            check_same_size(part, where, path, mask)
            mask[where] = 1
        return mask

    def reader(self) -> list[str]:
        """What is read depends on all masks of a picture, of which a pair names the first."""
        parts = [*itertools.chain.from_iterable(self.parts.values())]
        return [*super().reader(), fingerprint(file_facts(parts))]
