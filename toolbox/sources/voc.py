"""Pascal VOC, of 2007 and 2012."""

import re
from itertools import chain
from pathlib import Path

from toolbox.errors import InputError
from toolbox.files import list_files
from toolbox.findings import Cause, FileInputError
from toolbox.sources.base import SPLITS, Pair, Source
from toolbox.values import IGNORE, Table, color_key

REMAINS = r"VOC(trainval|test)_.*\.tar|VOCdevkit"  # of a download that was stopped
MISSING = Cause("files are not there, but the owners' lists name them", "unpack the archive anew")
BORDER = (224, 224, 192)  # drawn around objects: no class


def palette_color(value: int) -> tuple[int, int, int]:
    """The owners' palette: bit 3j + c of the id is bit 7 - j of colour c."""
    color = []
    for channel in range(3):
        bits = [value >> 3 * j + channel & 1 for j in range(3)]
        color.append(bits[0] << 7 | bits[1] << 6 | bits[2] << 5)
    return tuple(color)


class VOC(Source):
    """VOCdevkit/VOC<year>/{JPEGImages,SegmentationClass,ImageSets/Segmentation}: palette masks,
    255 = ignore, the owners' lists."""

    year, splits = "2012", ("train", "val")

    def check_place(self) -> None:
        """Gigabytes are unpacked only where they are expected: where nothing else lies, or in the
        project's own Dataset folder."""
        if self.root.exists() and not self.root.is_dir():
            raise InputError(f"{self.root} is no folder; set data_dir to one")
        here = list_files(self.root) if self.root.is_dir() else []
        others = [path for path in here if not re.fullmatch(REMAINS, path.name)]
        if others and not (self.root / "make_streets.py").exists():
            raise InputError(
                f"{self.root} holds no VOCdevkit/VOC{self.year}, but {others[0].name} and so on; "
                "set data_dir to the folder in which VOCdevkit lies, or to an empty one to "
                "download it to"
            )

    def download(self, folder: Path) -> None:
        from torchvision.datasets import VOCSegmentation  # slow to import, so only here

        print(f"{folder} is not there; downloading it from its owners", flush=True)
        for split in sorted({*self.splits} - {"val"}):  # val comes with train
            try:
                VOCSegmentation(self.root, self.year, split, download=True)
            except (OSError, RuntimeError) as error:
                raise InputError(
                    f"{folder} is not there and can't be downloaded ({error}); "
                    f"unpack its owners' archive in {self.root}"
                ) from error

    def find_pairs(self) -> list[Pair]:
        from torchvision.datasets import VOCSegmentation

        folder, pairs = self.root / "VOCdevkit" / f"VOC{self.year}", []
        lists = folder / "ImageSets" / "Segmentation"
        if not (lists / "train.txt").exists():
            self.check_place()
            self.download(folder)
        for split in self.splits:
            if not (lists / f"{split}.txt").exists():
                self.notes.append(f"{split} is left out: there is no list of it in {lists}")
                continue
            listed = VOCSegmentation(self.root, self.year, split)
            for image, mask in zip(listed.images, listed.masks):
                pairs.append(Pair(Path(image), Path(mask), split))
        files = chain.from_iterable(pair[:2] for pair in pairs)
        missing = {path for path in files if not path.exists()}
        for path in sorted(missing):
            sentence = f"{path} is not there, but the owners' lists name it"
            self.problems.append(FileInputError(sentence, MISSING, path))
        return [pair for pair in pairs if not missing & {*pair[:2]}]

    def table(self) -> Table:
        # It knows the names; nothing is downloaded.
        from torchvision.models.segmentation import DeepLabV3_ResNet50_Weights

        names = ["background", *DeepLabV3_ResNet50_Weights.DEFAULT.meta["categories"][1:]]
        colors = [palette_color(i) for i in range(len(names))]
        meaning = {i: i for i in range(len(names))}
        meaning |= {color_key(color): i for i, color in enumerate(colors)}
        meaning |= {IGNORE: IGNORE, color_key(BORDER): IGNORE}
        return Table(names, colors, meaning)


class VOC2007(VOC):
    year, splits = "2007", SPLITS
