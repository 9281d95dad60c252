"""Data sets as labelling tools leave them: shapes in text files, of which masks are drawn once,
into the cache."""

import difflib
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path

from toolbox import cache
from toolbox.bars import Counting
from toolbox.errors import InputError, few
from toolbox.files import file_facts, fingerprint, write_atomic
from toolbox.findings import Cause, FileInputError, noted, told
from toolbox.offers import MOST, made_up
from toolbox.processes import all_cores
from toolbox.sources.base import Pair
from toolbox.sources.folder import Folder
from toolbox.sources.sketches import Shape, Sketch, draw_mask, reaches_out
from toolbox.sources.tree import Tree
from toolbox.values import IGNORE, Table

import numpy as np

VERSION = 1  # of how masks are drawn: another one draws them anew
BACKGROUND = ("background", "_background_")  # what no shape covers, too
IGNORED = "__ignore__"
NAMED = 5  # labels, in one line
SLIPS = 2  # pictures, at most, with a label that was typed wrongly
OFTENER = 5  # times as many have the label that was meant
WEEK = 604800  # seconds; so long a run may go on that was begun with labels of before
TWICE = Cause("pictures are labelled twice", "take one of the two out")
NO_PICTURE = Cause(
    "pictures are not there",
    "put them there (tools may export them only when asked to), or take out what names them",
)


def is_background(label: str) -> bool:
    return label.strip().casefold() in BACKGROUND


class Drawn(Folder):
    """A tool's export. A new one says in fits whether a folder is its own, in sketches what is to
    be drawn, and, where its files list the classes, puts them into `listed` in their order."""

    tool = ""

    @classmethod
    def fits(cls, root: Path) -> bool:
        raise NotImplementedError

    def sketches(self, tree: Tree) -> list[Sketch]:
        raise NotImplementedError

    def find_pairs(self) -> list[Pair]:
        self.listed: list[str] = []
        self.boxes = 0  # which are no masks
        tree = Tree(self.root)
        sketches = self.only_once(self.sketches(tree))
        shapes = list(chain.from_iterable(sketch.shapes for sketch in sketches))
        self.number_classes(shapes)
        self.notes.insert(
            0,
            f"taken for {self.tool}: {len(sketches)} pictures with {len(shapes)} shapes; what no "
            "shape covers is background",
        )
        self.note_alike()
        self.note_slips(sketches)
        self.note_left_out(tree, sketches)
        if (self.root / "classes.csv").exists():
            self.notes.append("classes.csv is not read here: the classes are those of the labels")
        return self.draw_all(self.in_splits(sketches))

    def picture_named(self, path: Path, name: str, tree: Tree) -> Path | None:
        """Where a picture lies that a file names; one that is nowhere is a problem."""
        with noted(self.problems):
            image = tree.find(name, path)
            if image:
                return image
            sentence = f"{path} names the picture {name}, which is not in {self.root}; put it there"
            self.problems.append(FileInputError(sentence, NO_PICTURE, name))
        return None

    def only_once(self, sketches: Sequence[Sketch]) -> list[Sketch]:
        """One sketch a picture; a second one is a problem."""
        first: dict[Path, Sketch] = {}
        for sketch in sketches:
            image = sketch.image.resolve()
            other = first.setdefault(image, sketch)
            if other is not sketch:
                sentence = (
                    f"{image} is labelled in {other.about} and again in {sketch.about}; take one "
                    "of the two out"
                )
                about = f"{image} ({other.about.name}, {sketch.about.name})"
                self.problems.append(FileInputError(sentence, TWICE, about))
        return list(first.values())

    def number_classes(self, shapes: Sequence[Shape]) -> None:
        """An id for each label that shapes have: as they are listed, or else by the alphabet."""
        labels = {shape.label for shape in shapes}
        ordered = list(dict.fromkeys([*self.listed, *sorted(labels)]))
        backgrounds = [label for label in ordered if is_background(label)]
        classes = [label for label in ordered if label not in (*backgrounds, IGNORED)]
        self.unused = [label for label in classes if label not in labels]
        self.names = ["background", *(label for label in classes if label in labels)]
        if len(self.names) > MOST:
            raise InputError(f"{self.root} has {len(self.names)} classes; expected {MOST} at most")
        self.ids = {name: i for i, name in enumerate(self.names)}
        self.ids |= {**dict.fromkeys(backgrounds, 0), IGNORED: IGNORE}

    def note_alike(self) -> None:
        """Labels that differ by case or blanks alone are two classes, and likely meant as one."""
        spelt: dict[str, list[str]] = {}
        for name in self.names:
            spelt.setdefault("".join(name.casefold().split()), []).append(repr(name))
        for same in spelt.values():
            if len(same) > 1:
                self.notes.append(
                    f"{' and '.join(same)} are probably one class: they differ by case or blanks"
                )

    def note_slips(self, sketches: Sequence[Sketch]) -> None:
        """A label in hardly any picture that is nearly another's name was likely typed wrongly."""
        found: dict[str, list[str]] = {name: [] for name in self.names}
        for sketch in sketches:
            for label in {shape.label for shape in sketch.shapes} & found.keys():
                found[label].append(sketch.about.name)
        for name, files in found.items():
            common = [other for other in found if len(found[other]) >= OFTENER * len(files) > 0]
            likely = difflib.get_close_matches(name, common, n=1)
            if likely and len(files) <= SLIPS:
                self.notes.append(
                    f"{name!r} is in {few(sorted(set(files)))} alone, and {likely[0]!r} in "
                    f"{len(found[likely[0]])} pictures; if it is a slip of the pen, mend it there"
                )

    def note_empty(self, sketches: Sequence[Sketch]) -> None:
        """Pictures that a file lists without any shape."""
        empty = [sketch.image.name for sketch in sketches if not sketch.shapes]
        if empty:
            self.notes.append(
                f"{len(empty)} picture(s) have no shape, only background: {few(empty)}"
            )

    def note_left_out(self, tree: Tree, sketches: Sequence[Sketch]) -> None:
        """What is not drawn, or only in part."""
        known = {sketch.image.resolve() for sketch in sketches}
        unknown = [path.name for path in tree.pictures if path.resolve() not in known]
        if unknown:
            self.notes.append(f"{len(unknown)} picture(s) without labels left out: {few(unknown)}")
        if tree.elsewhere:
            self.notes.append(
                f"{len(tree.elsewhere)} picture(s) lie in other folders than the labels say; see "
                f"that they are the same: {few(tree.elsewhere)}"
            )
        if self.boxes:
            self.notes.append(
                f"{self.boxes} box(es) left out: no mask can be made of a box without an outline"
            )
        out = []
        for sketch in sketches:
            out += [sketch.image.name for shape in sketch.shapes if reaches_out(shape, sketch.size)]
        if out:
            names = few(list(dict.fromkeys(out)))
            self.notes.append(
                f"{len(out)} shape(s) reach beyond their pictures and are cut off there: {names}"
            )

    def in_splits(self, sketches: Sequence[Sketch]) -> list[Sketch]:
        """Where the export has splits, what belongs to none is left out."""
        splits = {sketch.split for sketch in sketches}
        if splits in ({"val"}, {"test"}):  # a file called test.json, say
            self.notes.append(f"all pictures are in {splits.pop()} alone, so they are split anew")
            return [sketch._replace(split="") for sketch in sketches]
        if "" not in splits or splits == {""}:
            return list(sketches)
        names = [sketch.image.name for sketch in sketches if not sketch.split]
        self.notes.append(f"{len(names)} picture(s) that are in no split left out: {few(names)}")
        return [sketch for sketch in sketches if sketch.split]

    # ---- drawing ----

    def draw_all(self, sketches: Sequence[Sketch]) -> list[Pair]:
        """The pairs; masks that are not in the cache for these files are drawn."""
        root = self.root.resolve()
        folder = cache.CACHE / f"{root.name}-drawn-{fingerprint(str(root))}"
        same = fingerprint(VERSION, self.tool, self.ids)
        masks = {}
        for sketch in sketches:
            facts = file_facts([sketch.about, sketch.image])
            own = fingerprint(same, facts)
            masks[folder / f"{sketch.image.stem[:40]}-{own}.png"] = sketch
        missing = [(path, sketch) for path, sketch in masks.items() if not path.exists()]
        with ThreadPoolExecutor(all_cores()) as threads:
            done = threads.map(self.draw, missing)
            list(Counting(done, "drawing masks", len(missing), leave=False, disable=not missing))
        sweep_drawn(folder, masks)
        return [
            Pair(sketch.image, path, sketch.split)
            for path, sketch in masks.items()
            if path.exists()
        ]

    def draw(self, item: tuple[Path, Sketch]) -> None:
        """One mask into its file."""
        path, sketch = item
        with noted(self.problems):
            mask, found = draw_mask(sketch, self.ids)
            self.problems += found
            if not found:
                write_atomic(path, lambda file: mask.save(file, "PNG"))

    def read_values(self, path: Path, meaning: dict[int, int] | None = None) -> np.ndarray:
        if not path.exists():  # the cache may be deleted at any time
            type(self)(self.root, self.name).find_pairs()
        return super().read_values(path, meaning)

    def likely_causes(self) -> list[str]:
        """What the folder was taken for: if that is wrong, so is all the rest."""
        return self.notes[:1]

    def table(self) -> Table:
        """The classes that have pixels, in their order."""
        if not self.pairs and self.problems:
            raise told(self.problems, self.root, 0)
        values = self.census().values
        kept = [i for i in range(len(self.names)) if values[i]]
        absent = [name for i, name in enumerate(self.names) if not values[i]] + self.unused
        if absent:
            self.notes.append(f"no class, as no mask has a pixel of it: {few(absent, NAMED)}")
        if len(kept) < 2:
            raise InputError(
                f"all masks in {self.root} are {self.names[kept[0]] if kept else 'ignored'}: there "
                f"is nothing to tell apart ({'; '.join(self.notes)})"
            )
        meaning = {i: kept.index(i) for i in kept} | {IGNORE: IGNORE}
        names = [self.names[i] for i in kept]
        return Table(names, [made_up(i) for i in kept], meaning)


def sweep_drawn(folder: Path, masks: dict) -> None:
    """Take away what was drawn for files as they were before."""
    for path in folder.glob("*"):
        with suppress(OSError):
            if path not in masks and time.time() - path.stat().st_mtime > WEEK:
                path.unlink()
