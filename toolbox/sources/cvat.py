"""CVAT's "Segmentation mask 1.1": coloured masks, and what their colours mean in labelmap.txt."""

from collections.abc import Collection
from pathlib import Path

from toolbox.errors import InputError, few
from toolbox.findings import Cause, FileInputError
from toolbox.inputs import picture_endings
from toolbox.masks import opened
from toolbox.sources.base import NO_IMAGE, Pair
from toolbox.sources.folder import Folder
from toolbox.sources.tree import LEVELS, split_of, walk
from toolbox.tables import read_text
from toolbox.values import COLOR, IGNORE, Table, color_key

import numpy as np

PLACES = ("JPEGImages", "images", "data", ".", "../images")  # of pictures, from labelmap.txt on
NAMED = 5  # labels, in one line
LISTED = Cause("names in ImageSets are of no picture", "put the pictures back, or export anew")


def by_place(folder: Path, levels: int = LEVELS) -> dict[str, Path]:
    """A folder's pictures, and those of folders in it, by their places without ending."""
    endings, found = picture_endings(), {}
    for path in walk(folder, levels) if folder.is_dir() else []:
        if path.suffix.lower() in endings:
            found[path.relative_to(folder).with_suffix("").as_posix()] = path
    return found


class Cvat(Folder):
    """labelmap.txt and SegmentationClass/; pictures in JPEGImages/ or elsewhere; the splits' lists
    in ImageSets/Segmentation/."""

    @classmethod
    def fits(cls, root: Path) -> bool:
        return (root / "labelmap.txt").is_file() and (root / "SegmentationClass").is_dir()

    def find_pairs(self) -> list[Pair]:
        masks = by_place(self.root / "SegmentationClass")
        folder, images = self.find_images(masks)
        splits = self.splits()
        self.check_names(images, masks, splits)
        names = sorted(images.keys() & masks.keys() & (splits or images).keys())
        self.notes.append(
            f"taken for CVAT's segmentation masks: {len(names)} pictures, which lie in {folder}"
        )
        if (self.root / "classes.csv").exists():
            self.notes.append("classes.csv is not read here: labelmap.txt lists the classes")
        left_out = [images[name].name for name in sorted(images.keys() - {*names})]
        if left_out:
            self.notes.append(
                f"{len(left_out)} picture(s) left out, as they have no mask or are in no list: "
                f"{few(left_out)}"
            )
        return [Pair(images[name], masks[name], splits.get(name, "")) for name in names]

    def likely_causes(self) -> list[str]:
        return self.notes[:1] + super().likely_causes()

    def find_images(self, masks: Collection[str]) -> tuple[Path, dict[str, Path]]:
        """The folder of the pictures, and these by their names."""
        for place in PLACES:
            folder = self.root / place
            levels = 0 if place == "." else LEVELS
            found = by_place(folder, levels)
            if found.keys() & masks:
                return folder, found
        raise InputError(
            f"{self.root} has masks in SegmentationClass but no pictures of their names; they were "
            f"looked for in {', '.join(PLACES)}: put them into JPEGImages"
        )

    def splits(self) -> dict[str, str]:
        """The split of each picture that the lists name: "" of default.txt's."""
        lists, found = self.root / "ImageSets" / "Segmentation", {}
        for path in walk(lists, 0) if lists.is_dir() else []:
            for line in read_text(path).splitlines():
                name = line.strip().strip('"')  # it has quotes where a blank is in it
                if name:  # trainval.txt says nothing of what train.txt has said
                    found[name] = split_of([path.stem]) or found.get(name, "")
        return found

    def check_names(
        self, images: Collection[str], masks: dict[str, Path], splits: Collection[str]
    ) -> None:
        """Every mask and every name in a list has its picture."""
        for name in sorted(masks.keys() - images):
            self.unpaired[1].append(name)
            sentence = f"{masks[name]} has no picture; take it out, or put its picture back"
            self.problems.append(FileInputError(sentence, NO_IMAGE, masks[name]))
        for name in sorted({*splits} - {*images}):
            sentence = f"{name} is named in {self.root / 'ImageSets'}, but there is no such picture"
            self.problems.append(FileInputError(sentence, LISTED, name))

    def read_values(self, path: Path, meaning: dict[int, int] | None = None) -> np.ndarray:
        """Colours, of palettes too: labelmap.txt explains no numbers."""
        with opened(path) as picture:
            red, green, blue = np.moveaxis(np.array(picture.convert("RGB"), np.int32), 2, 0)
        return COLOR | red << 16 | green << 8 | blue

    def listed(self) -> dict[str, tuple[int, int, int]]:
        """The colour of each label; background, wherever it stands, comes first."""
        path, found = self.root / "labelmap.txt", {}
        for line in read_text(path).splitlines():
            if not line.strip() or line.startswith("#"):
                continue
            name, _, rest = line.partition(":")
            words = rest.partition(":")[0].split(",")
            if len(words) != 3 or not all(word.strip().isdecimal() for word in words):
                raise InputError(
                    f"{path} has the line {line!r}; expected label:red,green,blue:parts:actions"
                )
            color = tuple(int(word) for word in words)
            if name in found or color in found.values() or max(color) > 255:
                raise InputError(
                    f"{path} has the line {line!r}; expected a name and a colour of its own, each "
                    "number from 0 to 255"
                )
            found[name] = color
        first = {name: found[name] for name in found if name == "background"}
        return first | found

    def table(self) -> Table:
        """The labels that have pixels, in their order."""
        listed, values = self.listed(), self.census().values
        kept = {name: color for name, color in listed.items() if values[color_key(color)]}
        absent = [name for name in listed if name not in kept]
        if absent:
            self.notes.append(f"no class, as no mask has a pixel of it: {few(absent, NAMED)}")
        if len(kept) < 2:
            raise InputError(
                f"all masks in {self.root} are {few([*kept]) or 'of no label'}: there is nothing "
                "to tell apart; expected two labels of labelmap.txt or more"
            )
        meaning = {color_key(color): i for i, color in enumerate(kept.values())}
        return Table([*kept], [*kept.values()], {IGNORE: IGNORE, **meaning})
