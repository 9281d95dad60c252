"""A folder of one's own: images/ and masks/, and classes.csv."""

import itertools
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from toolbox.cache import TOO_BIG, remembered
from toolbox.census import Census, count, from_json, of_mask, together
from toolbox.errors import InputError
from toolbox.files import file_facts, fingerprint, list_files
from toolbox.findings import Cause, FileInputError
from toolbox.masks import read_mask
from toolbox.offers import check_specks, guessed_table
from toolbox.processes import all_cores
from toolbox.smoothing import MANY
from toolbox.sources.answers import nothing_found
from toolbox.sources.base import ARRAY, SPLITS, TEXTS, Pair, Source
from toolbox.sources.layouts import (
    Layout,
    has_masks,
    has_other_splits,
    named_layouts,
    pictures_in,
    usual_layouts,
)
from toolbox.sources.lists import listed_splits
from toolbox.sources.roboflow import named_table, names_in
from toolbox.sources.side_by_side import look_at, one_tail
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
    and train/masks. What has other names is read too, where it can be only one thing.
    """

    is_published = False

    @classmethod
    def fits(cls, root: Path) -> bool:
        """Whether there are masks, wherever the pictures may be; texts alone, in a folder of that
        name, are a tool's."""
        masks = [root / "masks", *(root / split / "masks" for split in SPLITS)]
        inner = [list_files(folder) for folder in masks if folder.is_dir()]
        return any(path.suffix.lower() not in TEXTS for path in itertools.chain(*inner))

    @cached_property
    def layouts(self) -> list[Layout]:
        """Where pairs lie: in images and masks, or in what can be nothing else."""
        usual = usual_layouts(self.root)
        has_splits = bool(usual[0].split)
        if has_masks(usual) and not has_other_splits(self.root, has_splits):
            return usual
        found = named_layouts(self.root)
        layouts = [
            layout for layout in found if layout.images != layout.masks or look_at(layout.images)
        ]
        for layout in found:
            if layout.split and layout not in layouts:
                self.notes.append(f"{layout.images} is left out: no masks were found for it")
        if not layouts:
            raise nothing_found(self.root)
        if len(layouts) > 1 and not layouts[0].split:
            raise InputError(
                f"pairs lie in {layouts[0].images} and in {layouts[1].images}, which is a split: "
                "put all of them into splits, or none"
            )
        return layouts

    def find_pairs(self) -> list[Pair]:
        pairs = []
        for layout in self.layouts:
            pairs += self.pairs_in(layout)
        if not self.layouts[0].split:
            pairs = listed_splits(self.root, pairs, self.notes)
        if self.layouts[0].is_usual and self.layouts[0].split:
            self.find_lost_masks()
            self.find_strays()
        return pairs

    def pairs_in(self, layout: Layout) -> list[Pair]:
        if layout.is_usual:
            return self.match_folders(layout.images, layout.masks, layout.split)
        images, masks, tail = self.files_of(layout)
        return self.match(images, masks, layout.split, tail)

    def files_of(self, layout: Layout) -> tuple[dict[str, Path], dict[str, Path], str]:
        """A layout's images and masks by their stems, and what masks' stems end in besides."""
        if layout.images != layout.masks:
            self.say_taken(layout)
            images = self.by_stem(layout.images, layout.endings)
            masks = self.mask_files(layout.masks)
            return images, masks, one_tail(masks.keys() - images.keys()) or "_mask"
        mixed, where = look_at(layout.images), layout.images.relative_to(self.root)
        self.notes.append(f"pictures and masks lie side by side in {where}: {mixed.remark()}")
        images = self.by_stem(layout.images, mixed.images)
        if not mixed.tail:
            return images, self.by_stem(layout.masks, mixed.masks), "_mask"
        stems = [stem for stem in images if stem.endswith(mixed.tail)]
        masks = {stem: images.pop(stem) for stem in stems}
        return images, masks, mixed.tail

    def say_taken(self, layout: Layout) -> None:
        """What was taken for what, where names are not the usual ones."""
        images, masks = (path.relative_to(self.root) for path in (layout.images, layout.masks))
        self.notes.append(f"the masks of the pictures in {images} are taken from {masks}")

    def mask_files(self, folder: Path) -> dict[str, Path]:
        """A folder's masks by their stems; a picture beside an array of its name shows that."""
        files = pictures_in(folder)
        arrays = {path.stem for path in files if path.suffix.lower() == ARRAY}
        shown = {path for path in files if path.stem in arrays and path.suffix.lower() != ARRAY}
        if shown:
            self.notes.append(
                f"{len(shown)} pictures in {folder.relative_to(self.root)} are left out: arrays of "
                f"the same names ({ARRAY}) hold the masks"
            )
        return self.by_stem(folder, left_out=shown)

    def find_lost_masks(self) -> None:
        """Name masks of splits whose images are not there."""
        for split in SPLITS:
            for images, masks in (
                (self.root / "images" / split, self.root / "masks" / split),
                (self.root / split / "images", self.root / split / "masks"),
            ):
                if masks.is_dir() and list_files(masks) and not images.is_dir():
                    self.problems.append(
                        f"{masks} has masks for pictures that are not there; expected them in "
                        f"{images}"
                    )

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
            names = names_in([self.root, *(layout.images for layout in self.layouts)])
            if names:
                return named_table(self.root, names, self.census(), self.notes)
            return guessed_table(self.root, self.census(), self.notes)
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
        with ThreadPoolExecutor(all_cores()) as threads:
            counted = threads.map(self.count_values, [pair.mask for pair in self.pairs])
            return together(counted).as_json()

    def census(self) -> Census:
        """All values in all masks with their pixel counts, remembered for unchanged files."""
        facts = file_facts([pair.mask for pair in self.pairs])
        name = f"census-{fingerprint(facts, *vars(Census()), *self.reader())}"
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
