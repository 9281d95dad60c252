"""A folder of one's own: images/ and masks/, and classes.csv."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from toolbox.cache import remembered
from toolbox.errors import InputError
from toolbox.files import file_facts, fingerprint, list_files
from toolbox.masks import IGNORE, JPEG, SMOOTHED, Table, color_of, describe_values, read_class_table
from toolbox.sources.base import SPLITS, Pair, Source

OBJECT = [(0, 0, 0), (255, 190, 0)]  # the colours of background and object


class Folder(Source):
    """images/ and masks/ with the same stems (or stem_mask), and classes.csv for three classes or
    more.

    Either may lie in train, val and test folders: images/train and masks/train, or train/images
    and train/masks.
    """

    is_published = False

    def find_pairs(self) -> list[Pair]:
        layouts = []
        for split in SPLITS:
            layouts.append((split, self.root / "images" / split, self.root / "masks" / split))
            layouts.append((split, self.root / split / "images", self.root / split / "masks"))
        present = [layout for layout in layouts if layout[1].is_dir()]
        if not present:
            return self.match_folders(self.root / "images", self.root / "masks")
        pairs = []
        for split, images, masks in present:
            pairs += self.match_folders(images, masks, split)
        for _, images, masks in layouts:
            if masks.is_dir() and list_files(masks) and not images.is_dir():
                self.problems.append(
                    f"{masks} has masks for pictures that are not there; expected them in {images}"
                )
        self.find_strays()
        return pairs

    def find_strays(self) -> None:
        """Name what lies beside the folders of the splits."""
        for path in list_files(self.root):
            is_pair = all(os.path.isdir(path / name) for name in ("images", "masks"))
            if is_pair and path.name.lower() not in SPLITS:
                self.problems.append(
                    f"{path} is none of {', '.join(SPLITS)}; call it one of these, or take it out"
                )
        for name in ("images", "masks"):
            if (self.root / name).is_dir():
                for path in list_files(self.root / name):
                    if path.name not in SPLITS:
                        self.problems.append(
                            f"{path} lies beside the folders of the splits; put it into one of "
                            "them or take it out"
                        )

    def table(self) -> Table:
        listed = self.root / "classes.csv"
        if not listed.exists():
            return self.binary_table()
        table = read_class_table(listed)
        greys = {color[0]: i for i, color in enumerate(table.colors) if len(set(color)) == 1}
        if len(greys) == len(table.colors):
            if self.mask_values().keys() - {IGNORE} <= greys.keys():
                table.meaning.update(greys)  # the masks hold nothing else: greys they are, not ids
        return table

    def count_values(self, path: Path) -> Counter:
        values, counts = np.unique(self.read_values(path), return_counts=True)
        values = [int(value) for value in values]  # an array of True and False holds 0 and 1
        return Counter(dict(zip(values, counts.tolist())))

    def count_all(self) -> Counter:
        values: Counter = Counter()
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for counted in threads.map(self.count_values, [pair.mask for pair in self.pairs]):
                values.update(counted)
        return values

    def mask_values(self) -> Counter:
        """All values in all masks with their pixel counts, remembered for unchanged files."""
        facts = file_facts([pair.mask for pair in self.pairs])
        name = f"values-{fingerprint(facts, *self.reader())}"
        values = remembered(name, self.count_all)
        return Counter({int(value): count for value, count in values.items()})

    def binary_table(self) -> Table:
        """Without classes.csv two values mean background and object; 255 beside 0 and 1 is
        ignore."""
        values = self.mask_values()
        ignored = {255: IGNORE} if set(values) == {0, 1, 255} else {}
        classes = sorted(values.keys() - ignored.keys())
        if len(classes) != 2:
            raise InputError(self.ask_for_table(values))
        meaning = {classes[0]: 0, classes[1]: 1, **ignored}
        return Table(["background", "object"], OBJECT, meaning)

    def ask_for_table(self, values: Counter) -> str:
        found = f"the masks in {self.root} hold {len(values)} values: {describe_values(values)}"
        classes = sorted(values.keys() - {IGNORE})
        are_ids = classes == list(range(len(classes)))
        has_jpeg = any(pair.mask.suffix.lower() in JPEG for pair in self.pairs)
        if has_jpeg or (len(values) > 40 and (not are_ids or len(values) == 256)):
            return f"{found}; {SMOOTHED}"
        rows = ["id,name,red,green,blue"]
        for i, value in enumerate(classes):
            made_up = i * 67 % 256, i * 131 % 256, i * 197 % 256
            red, green, blue = made_up if are_ids else color_of(value)
            rows.append(f"{i},class{i},{red},{green},{blue}")
        return (
            f"{found}; two values would mean background and object, others need "
            f"{self.root / 'classes.csv'}. To start from, with names of your own:\n"
            + "\n".join(rows)
        )
