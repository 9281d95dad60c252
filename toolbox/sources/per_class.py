"""One folder of masks for each class: masks/cat/p1.png says where the cat is in images/p1.jpg."""

import itertools
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from toolbox.cache import remembered
from toolbox.census import count
from toolbox.errors import InputError
from toolbox.files import file_facts, fingerprint
from toolbox.findings import Cause, FileInputError
from toolbox.masks import SMOOTHED, read_mask
from toolbox.offers import made_up
from toolbox.processes import all_cores
from toolbox.sources.alpha import of_alpha_alone
from toolbox.sources.base import ARRAY, Pair, read_array
from toolbox.sources.folder import Folder
from toolbox.sources.layouts import Layout, class_folders, pictures_in
from toolbox.sources.side_by_side import one_tail
from toolbox.tables import read_class_table
from toolbox.values import IGNORE, Table, color_key, describe_values

import numpy as np

NOT_BINARY = Cause(
    "masks of one class hold more than two values",
    "0 is for what is not of it. If the folder holds masks of all classes, put its files into "
    f"masks itself; {SMOOTHED}",
)
OTHER_SIZE = Cause("masks have another size than a picture's first", "all have its size")
MOST = IGNORE - 1  # classes beside the background
BACKGROUND = "background"


def is_class(path: Path) -> np.ndarray:
    """Where a mask of one class is not 0, or not transparent, bool (H, W)."""
    is_array = path.suffix.lower() == ARRAY
    if not is_array and (seen := of_alpha_alone(path)) is not None:
        return seen
    values = read_array(path) if is_array else read_mask(path)
    counts = count(values)
    black = [0, color_key((0, 0, 0))]
    if len(counts.keys() - {*black}) > 1:
        raise FileInputError(
            f"{path} holds {len(counts)} values ({describe_values(counts)}); expected two in a "
            "mask of one class: 0, and 1 or 255 where it is. If its folder holds masks of all "
            f"classes, put its files into masks itself; {SMOOTHED}",
            NOT_BINARY,
            path,
        )
    return ~np.isin(values, black)


def check_same_size(part: Path, where: np.ndarray, first: Path, other: np.ndarray) -> None:
    """All masks of a picture have the size of its first."""
    if where.shape != other.shape:
        raise FileInputError(
            f"{part} has another size than {first}; masks have their picture's size",
            OTHER_SIZE,
            part,
        )


class PerClass(Folder):
    """images/ and masks/CLASS/ for each class, with the same stems (or stem_mask): a picture that
    lacks a mask there has none of that class."""

    def __init__(self, root: Path, name: str = ""):
        super().__init__(root, name)
        self.parts: dict[Path, list[Path]] = {}  # of each pair's mask: all that belong to it

    @staticmethod
    def fits(source: Folder) -> bool:
        for layout in source.layouts:
            if class_folders(layout.masks) and pictures_in(layout.images):
                return True
        return False

    def pairs_in(self, layout: Layout) -> list[Pair]:
        if not layout.is_usual:
            self.say_taken(layout)
        images = self.by_stem(layout.images, layout.endings)
        by_picture: dict[str, list[Path]] = {}
        for folder in class_folders(layout.masks):
            masks = self.by_stem(folder)
            tail = one_tail(masks.keys() - images.keys()) or "_mask"
            for stem, path in self.drop_endings(images, masks, tail).items():
                by_picture.setdefault(stem, []).append(path)
        firsts = {stem: paths[0] for stem, paths in by_picture.items()}
        self.parts |= {paths[0]: paths for paths in by_picture.values()}
        return self.match(images, firsts, layout.split)

    @property
    def class_names(self) -> list[str]:
        """The folders' names, in the order of the alphabet."""
        names = set()
        for layout in self.layouts:
            names |= {folder.name for folder in class_folders(layout.masks)}
        return sorted(name for name in names if name.casefold() != BACKGROUND)

    def areas(self, path: Path) -> list[tuple[str, np.ndarray]]:
        """The classes that a picture has masks of, each with where it is, bool (H, W)."""
        found = []
        for part in self.parts[path]:
            where = is_class(part)
            if found:
                check_same_size(part, where, path, found[0][1])
            found.append((part.parent.name, where))
        return found

    def read_mask(self, path: Path, meaning: dict[int, int] | None = None) -> np.ndarray:
        """0 where no class is, else the class's number in the alphabet, from 1; the last on top."""
        numbers = {name: i for i, name in enumerate(self.class_names, start=1)}
        areas = self.areas(path)
        mask = np.zeros(areas[0][1].shape, np.int32)
        for name, where in areas:
            if name in numbers:
                mask[where] = numbers[name]
        return mask

    def reader(self) -> list[str]:
        """What is read depends on all masks of a picture, of which a pair names the first."""
        parts = [*itertools.chain.from_iterable(self.parts.values())]
        return [*super().reader(), fingerprint(self.class_names, file_facts(parts))]

    # ---- what the classes are, and what is said of them ----

    def table(self) -> Table:
        names = self.class_names
        if not names or len(names) > MOST:
            raise InputError(
                f"{self.root} has {len(names)} folders of masks, one for each class; expected 1 to "
                f"{MOST}"
            )
        self.say_what_was_found()
        self.say_overlaps()
        listed = self.root / "classes.csv"
        if os.path.lexists(listed):
            return self.as_listed(listed)
        colors = [made_up(i) for i in range(len(names) + 1)]
        meaning = {i: i for i in range(len(names) + 1)}
        return Table([BACKGROUND, *names], colors, meaning)

    def as_listed(self, listed: Path) -> Table:
        """Ids and colours of a classes.csv, whose names are the folders' and one for the rest."""
        table = read_class_table(listed)
        others = [name for name in table.names if name not in self.class_names]
        if len(others) != 1 or len(table.names) != len(self.class_names) + 1:
            raise InputError(
                f"{listed} has the names {', '.join(table.names)}; expected those of the folders "
                f"of masks, {', '.join(self.class_names)}, and one for the background"
            )
        meaning = {0: table.names.index(others[0])}
        for i, name in enumerate(self.class_names, start=1):
            meaning[i] = table.names.index(name)
        return table._replace(meaning=meaning)

    def say_what_was_found(self) -> None:
        counts: Counter = Counter()
        for parts in self.parts.values():
            counts.update(part.parent.name for part in parts)
        shown = ", ".join(f"{name} ({counts[name]} masks)" for name in self.class_names)
        self.notes.append(
            f"each folder of masks is a class: {shown}; a picture without a mask there has none of "
            "it"
        )
        if unused := {*counts} - {*self.class_names}:
            self.notes.append(
                f"masks in {', '.join(unused)} are not needed: what is in no class is background"
            )

    def say_overlaps(self) -> None:
        pairs = self.pairs
        name = f"overlaps-{fingerprint(self.reader())}"
        with suppress(InputError):  # masks that can't be read are named with all that is wrong
            for one in remembered(name, lambda: self.overlaps(pairs)).values():
                self.notes.append(
                    f"{one['below']} and {one['above']} overlap in {one['pixels']:,} pixels of "
                    f"{one['pictures']} pictures: they count as {one['above']}, the later in the "
                    "alphabet"
                )

    def overlaps(self, pairs: Sequence[Pair]) -> dict[str, dict]:
        """Of each two classes that share pixels: in how many, and in how many pictures."""
        found: dict[str, dict] = {}
        with ThreadPoolExecutor(all_cores()) as threads:
            for shared in threads.map(self.shared_pixels, [pair.mask for pair in pairs]):
                for (below, above), pixels in shared.items():
                    fresh = {"below": below, "above": above, "pixels": 0, "pictures": 0}
                    one = found.setdefault(f"{below}/{above}", fresh)
                    one["pixels"] += pixels
                    one["pictures"] += 1
        return found

    def shared_pixels(self, path: Path) -> dict[tuple[str, str], int]:
        areas = [area for area in self.areas(path) if area[0] in self.class_names]
        found = {}
        for (below, lower), (above, upper) in itertools.combinations(areas, 2):
            if pixels := int((lower & upper).sum()):
                found[below, above] = pixels
        return found
