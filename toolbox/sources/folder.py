"""A folder of one's own: images/ and masks/, and classes.csv."""

import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from toolbox.cache import TOO_BIG, remembered
from toolbox.census import Census, count, from_json, of_mask, together
from toolbox.errors import InputError
from toolbox.files import file_facts, fingerprint, list_files
from toolbox.findings import Cause, FileInputError
from toolbox.masks import read_mask
from toolbox.offers import check_specks, guessed_table
from toolbox.smoothing import MANY
from toolbox.sources.base import SPLITS, Pair, Source
from toolbox.sources.unread import brushed
from toolbox.tables import read_class_table
from toolbox.values import COLOR, IGNORE, Table

STRAY = Cause(
    "files lie beside the folders of the splits", "put them into one of these or take them out"
)


class Folder(Source):
    """images/ and masks/ with the same stems (or stem_mask), and classes.csv for three classes or
    more.

    Either may lie in train, val and test folders: images/train and masks/train, or train/images
    and train/masks.
    """

    is_published = False

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Whether there are masks, wherever the pictures may be."""
        masks = [root / "masks", *(root / split / "masks" for split in SPLITS)]
        return any(folder.is_dir() for folder in masks)

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
                        sentence = (
                            f"{path} lies beside the folders of the splits; put it into one of "
                            "them or take it out"
                        )
                        self.problems.append(FileInputError(sentence, STRAY, path))

    def table(self) -> Table:
        listed = self.root / "classes.csv"
        if not os.path.lexists(listed):
            self.find_misnamed_table()
            return guessed_table(self.root, self.census())
        table = read_class_table(listed)
        greys = {color[0]: i for i, color in enumerate(table.colors) if len(set(color)) == 1}
        if len(greys) == len(table.colors) and not table.has_values:
            census = self.census()
            numbers = {value for value in census.values if value < COLOR}
            if numbers and numbers - {IGNORE} <= greys.keys():
                # The masks hold no others: greys they are, not ids.
                table.meaning.update(greys)
            else:
                check_specks(self.root, census)
        return table

    def find_misnamed_table(self) -> None:
        for path in list_files(self.root):
            if path.name.lower() in ("classes.csv", "classes.csv.txt", "classes.txt"):
                raise InputError(f"{path} is not read; call it {self.root / 'classes.csv'}")

    def count_values(self, path: Path) -> Census:
        try:
            return of_mask(path, self.read_values(path), is_picture=not self.reader())
        except MemoryError as error:
            sentence = f"{path} is too big for this machine's memory; {TOO_BIG.cure}"
            raise FileInputError(sentence, TOO_BIG, path) from error

    def count_all(self) -> dict:
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            counted = threads.map(self.count_values, [pair.mask for pair in self.pairs])
            return together(counted).as_json()

    def census(self) -> Census:
        """All values in all masks with their pixel counts, remembered for unchanged files."""
        facts = file_facts([pair.mask for pair in self.pairs])
        name = f"census-{fingerprint(facts, *self.reader())}"
        return from_json(remembered(name, self.count_all))

    def likely_causes(self) -> list[str]:
        """What may be behind many problems: names that nearly fit, masks and pictures exchanged."""
        return [*super().likely_causes(), *self.exchanged(), *brushed(self.unpaired[1])]

    def exchanged(self) -> list[str]:
        """Whether images/ holds what masks do, few values, and masks/ what pictures do."""
        some = self.pairs[:3]
        if self.reader() or not some:
            return []
        kinds = []
        for paths in ([pair.image for pair in some], [pair.mask for pair in some]):
            with suppress(InputError, MemoryError):  # these are problems already
                kinds.append([len(count(read_mask(path))) for path in paths])
        if len(kinds) < 2 or max(kinds[0]) > 16 or min(kinds[1]) <= MANY:
            return []
        return [
            f"{some[0].mask} and others look like pictures, and {some[0].image} and others like "
            "masks: exchange what lies in images and in masks"
        ]
