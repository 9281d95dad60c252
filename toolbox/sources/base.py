"""What a data set's owners lay out: which files belong together, and what the pixels of their
masks mean."""

import inspect
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from toolbox.errors import InputError, few
from toolbox.files import list_files
from toolbox.findings import Cause, FileInputError
from toolbox.masks import read_mask, whole_numbers
from toolbox.names import likely_cure
from toolbox.values import Table

import numpy as np
from numpy.lib.format import open_memmap

SPLITS = ("train", "val", "test")
ARRAY = ".npy"
TEXTS = set(".txt .md .csv .json .xml .html .pdf".split())
NO_MASK = Cause("images have no mask", "take them out, or add masks of the same names")
NO_IMAGE = Cause("masks have no image", "take them out, or add images of the same names")
NO_FILE = Cause("things are no files", "put pictures there, or take them out")
TWINS = Cause("files have the stem of another", "one picture has one file: take the others out")
UNREADABLE = Cause("masks can't be read", "replace them or take them out")


class Pair(NamedTuple):
    image: Path
    mask: Path
    split: str = ""  # train, val or test where the owner says so
    group: str = ""  # pairs of one group (views of one car) stay in one split


def no_file(path: Path) -> FileInputError | None:
    """What to say of something that is no file; a pipe, say, would be read for ever."""
    if path.is_file():
        return None
    if path.is_dir():
        cure = "only train, val and test may be folders"
        sentence = f"{path} is a folder where a picture was expected; {cure}"
    elif not path.exists():
        sentence = f"{path} is a link to nothing; put its file back or take it out"
    else:
        sentence = f"{path} is no file but a pipe, a socket or a device; take it out"
    return FileInputError(sentence, NO_FILE, path)


def read_array(path: Path) -> np.ndarray:
    """The numbers of a .npy mask, (H, W) or (H, W, 1), of any type; nothing in it can run code."""
    values = np.array(open_memmap(path, mode="r"))  # a file shorter than it says is no mask
    if values.ndim == 3 and values.shape[2] == 1:
        return values[..., 0]
    return values


class Source:
    """A data set as its owners lay it out: a new one says in find_pairs where its pairs are and in
    table what its masks' pixels mean, as CamVid does; then it stands in SOURCES under its name."""

    is_published = True

    def __init__(self, root: Path, name: str = ""):
        self.root, self.name = root, name
        self.problems: list[InputError | str] = []  # what has to be put right before any training
        self.unpaired: tuple[list[str], list[str]] = [], []  # stems of images, and of masks
        self.notes: list[str] = []  # what is worth knowing

    def find_pairs(self) -> list[Pair]:
        raise NotImplementedError

    def table(self) -> Table:
        raise NotImplementedError

    def read_mask(self, path: Path, meaning: dict[int, int] | None = None) -> np.ndarray:
        """A mask's values as they lie on disk, int (H, W), to be looked up in the table's meaning.

        A source whose masks are neither pictures nor arrays has a method of its own here.
        """
        if path.suffix.lower() == ARRAY:
            return read_array(path)
        return read_mask(path, meaning)

    def read_values(self, path: Path, meaning: dict[int, int] | None = None) -> np.ndarray:
        """What read_mask gives; a file that it can't read is named."""
        try:
            values = np.asarray(self.read_mask(path, meaning))
            if values.ndim != 2:
                raise ValueError(f"its shape is {values.shape}, not (height, width)")
            is_array = path.suffix.lower() == ARRAY
            return whole_numbers(path, values) if is_array or self.reader() else values
        except (InputError, MemoryError):
            raise
        except Exception as error:  # a source's own reader may raise anything
            raise FileInputError(
                f"{path} can't be read as a mask ({error or type(error).__name__}); replace it or "
                "take it out",
                UNREADABLE,
                path,
            ) from error

    def reader(self) -> list[str]:
        """Names how masks are read, where that is not the usual way: another way, another cache."""
        own = type(self).read_mask
        return [] if own is Source.read_mask else [inspect.getsource(own)]

    @cached_property
    def pairs(self) -> list[Pair]:
        return self.find_pairs()

    def likely_causes(self) -> list[str]:
        """What may be behind many problems at once."""
        return likely_cure(*self.unpaired)

    def by_stem(
        self, folder: Path, endings: Collection[str] = (), left_out: Collection[Path] = ()
    ) -> dict[str, Path]:
        """A folder's files by their names without ending; with endings, only such files."""
        if not folder.is_dir():
            raise InputError(
                f"{folder} is not there; Dataset/readme.md shows the tree that is expected"
            )
        found: dict[str, Path] = {}
        files = list_files(folder)
        texts = [path for path in files if path.suffix.lower() in TEXTS]
        if not endings and 0 < len(texts) < len(files):
            names = few([path.name for path in texts])
            self.notes.append(f"{len(texts)} text(s) beside pictures left out: {names}")
            left_out = {*left_out, *texts}
        for path in files:
            if endings and path.suffix.lower() not in endings or path in left_out:
                continue
            if problem := no_file(path):
                self.problems.append(problem)
            elif path.stem in found:
                twin = found[path.stem].name
                sentence = f"{path} and {twin} have the same stem; one picture has one file"
                self.problems.append(FileInputError(sentence, TWINS, f"{path} ({twin})"))
            else:
                found[path.stem] = path
        return found

    def drop_endings(
        self, images: dict[str, Path], masks: dict[str, Path], tail: str
    ) -> dict[str, Path]:
        """Masks by the stems of their images: tree_mask belongs to tree."""
        named: dict[str, Path] = {}
        for stem, path in masks.items():
            if stem not in images and stem.endswith(tail):
                stem = stem.removesuffix(tail)
                if stem in masks:
                    sentence = (
                        f"{path} and {masks[stem].name} are masks of one picture; take one out"
                    )
                    about = f"{path} ({masks[stem].name})"
                    self.problems.append(FileInputError(sentence, TWINS, about))
            named[stem] = path
        return named

    def match(
        self,
        images: dict[str, Path],
        masks: dict[str, Path],
        split: str = "",
        tail: str = "_mask",
    ) -> list[Pair]:
        """Pairs of the same stem, or stem and stem_mask; each file that is left over is a
        problem."""
        masks = self.drop_endings(images, masks, tail)
        for stem in sorted(images.keys() - masks.keys()):
            self.unpaired[0].append(stem)
            sentence = f"{images[stem]} has no mask; take it out, or add one of the same name"
            self.problems.append(FileInputError(sentence, NO_MASK, images[stem]))
        for stem in sorted(masks.keys() - images.keys()):
            self.unpaired[1].append(stem)
            sentence = f"{masks[stem]} has no image; take it out, or add one of the same name"
            self.problems.append(FileInputError(sentence, NO_IMAGE, masks[stem]))
        both = sorted(images.keys() & masks.keys())
        return [Pair(images[stem], masks[stem], split) for stem in both]

    def match_folders(self, images: Path, masks: Path, split: str = "") -> list[Pair]:
        """The pairs of a folder of images and one of masks; of a split without masks, nothing."""
        if split and not (masks.is_dir() and list_files(masks)):
            self.notes.append(f"{images} is left out: there are no masks in {masks}")
            return []
        return self.match(self.by_stem(images), self.mask_files(masks), split)

    def mask_files(self, folder: Path) -> dict[str, Path]:
        """A folder's masks by their stems."""
        return self.by_stem(folder)
