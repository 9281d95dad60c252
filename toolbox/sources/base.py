"""What a data set's owners lay out: which files belong together, and what the pixels of their
masks mean."""

import inspect
from collections.abc import Collection
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from toolbox.errors import InputError
from toolbox.files import list_files
from toolbox.masks import Table, read_mask

SPLITS = ("train", "val", "test")


class Pair(NamedTuple):
    image: Path
    mask: Path
    split: str = ""  # train, val or test where the owner says so
    group: str = ""  # pairs of one group (views of one car) stay in one split


class Source:
    """A data set as its owners lay it out: a new one says in find_pairs where its pairs are and in
    table what its masks' pixels mean, as CamVid does; then it stands in SOURCES under its name."""

    is_published = True

    def __init__(self, root: Path, name: str = ""):
        self.root, self.name = root, name
        self.problems: list[str] = []  # what has to be put right before any training
        self.notes: list[str] = []  # what is worth knowing

    def find_pairs(self) -> list[Pair]:
        raise NotImplementedError

    def table(self) -> Table:
        raise NotImplementedError

    def read_mask(self, path: Path, meaning: dict[int, int] | None = None) -> np.ndarray:
        """A mask's values as they lie on disk, int (H, W), to be looked up in the table's meaning.

        A source whose masks are no pictures (.npy, say) has a method of its own here.
        """
        return read_mask(path, meaning)

    def read_values(self, path: Path, meaning: dict[int, int] | None = None) -> np.ndarray:
        """What read_mask gives; a file that it can't read is named."""
        try:
            return self.read_mask(path, meaning)
        except (InputError, MemoryError):
            raise
        except Exception as error:  # a source's own reader may raise anything
            raise InputError(
                f"{path} can't be read as a mask ({error or type(error).__name__}); replace it or "
                "take it out"
            ) from error

    def reader(self) -> list[str]:
        """Names how masks are read, where that is not the usual way: another way, another cache."""
        own = type(self).read_mask
        return [] if own is Source.read_mask else [inspect.getsource(own)]

    @cached_property
    def pairs(self) -> list[Pair]:
        return self.find_pairs()

    def by_stem(self, folder: Path, endings: Collection[str] = ()) -> dict[str, Path]:
        """A folder's files by their names without ending; with endings, only such files."""
        if not folder.is_dir():
            raise InputError(
                f"{folder} is not there; Dataset/readme.md shows the tree that is expected"
            )
        found: dict[str, Path] = {}
        for path in list_files(folder):
            if endings and path.suffix.lower() not in endings:
                continue
            if not path.exists():
                self.problems.append(
                    f"{path} is a link to nothing; put its file back or take it out"
                )
            elif path.is_dir():
                self.problems.append(
                    f"{path} is a folder where a picture was expected; only train, val and test "
                    "may be folders"
                )
            elif path.stem in found:
                twin = found[path.stem].name
                self.problems.append(
                    f"{path} and {twin} have the same stem; one picture has one file"
                )
            else:
                found[path.stem] = path
        return found

    def drop_endings(self, images: dict[str, Path], masks: dict[str, Path]) -> dict[str, Path]:
        """Masks by the stems of their images: tree_mask belongs to tree."""
        named: dict[str, Path] = {}
        for stem, path in masks.items():
            if stem not in images and stem.endswith("_mask"):
                stem = stem.removesuffix("_mask")
                if stem in masks:
                    self.problems.append(
                        f"{path} and {masks[stem].name} are masks of one picture; take one out"
                    )
            named[stem] = path
        return named

    def match(self, images: dict[str, Path], masks: dict[str, Path], split: str = "") -> list[Pair]:
        """Pairs of the same stem, or stem and stem_mask; each file that is left over is a
        problem."""
        masks = self.drop_endings(images, masks)
        for stem in sorted(images.keys() - masks.keys()):
            self.problems.append(
                f"{images[stem]} has no mask; take it out, or add one of the same name"
            )
        for stem in sorted(masks.keys() - images.keys()):
            self.problems.append(
                f"{masks[stem]} has no image; take it out, or add one of the same name"
            )
        both = sorted(images.keys() & masks.keys())
        return [Pair(images[stem], masks[stem], split) for stem in both]

    def match_folders(self, images: Path, masks: Path, split: str = "") -> list[Pair]:
        """The pairs of a folder of images and one of masks; of a split without masks, nothing."""
        if split and not (masks.is_dir() and list_files(masks)):
            self.notes.append(f"{images} is left out: there are no masks in {masks}")
            return []
        return self.match(self.by_stem(images), self.by_stem(masks), split)
