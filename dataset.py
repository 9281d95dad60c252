"""Data sets: which files belong together, what the pixels of their masks mean, and the stream of augmented pairs.

    files ── pairs by name, split ──> read: image uint8 (H, W, 3) RGB, mask uint8 (H, W) class ids, 255 = ignore
          ── resize once, cached ──> augment (both together) ──> uint8 tensors

A source (CamVid, Folder, …) says only where its pairs are and what its masks mean; all the rest is the same for all.

    python dataset.py [recipes/NAME.py] [name=value …]     check a data set: report and sample sheet; exit status 1 if anything is wrong
"""

import csv
import glob
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

IGNORE = 255  # a pixel without a class: no loss, no metric
COLOR = (
    1 << 24
)  # marks a mask pixel that holds a colour, so that ids and colours find their class in one table
CACHE = Path(__file__).parent / "Dataset" / "cache"  # resized pictures; may be deleted at any time
SPLITS = ("train", "val", "test")
FACTS = (
    "sizes",
    "pixels",
    "digests",
)  # arrays of what is known of each pair, beside its resized picture
JPEG = {".jpg", ".jpeg"}
SMOOTHED = "so many come from saving as JPEG or resizing with smoothing: save masks as PNG, resize them with nearest neighbour"
JUNK = {
    "thumbs.db",
    "desktop.ini",
}  # what file managers leave behind, beside names that start with a dot
PIXEL_LIMIT = 500_000_000  # a small file may unpack to any size; this much takes 1.5 GB
Image.MAX_IMAGE_PIXELS = None  # opened() sees to it, with one sentence for every kind of file
cv2.setNumThreads(0)  # pictures are worked on side by side already
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else its import asks the network for a newer version


class InputError(Exception):
    """Something a user can put right; the message says what was found, what was expected and what to do."""


class Pair(NamedTuple):
    image: Path
    mask: Path
    split: str = ""  # train, val or test where the owner says so
    group: str = ""  # pairs of one group (views of one car) stay in one split


class Table(NamedTuple):
    """The classes in the order of their ids, and what a mask's pixels mean: value, or COLOR | rgb, to class id or IGNORE."""

    names: list[str]
    colors: list[tuple[int, int, int]]
    meaning: dict[int, int]


def color_key(color: Sequence[int]) -> int:
    red, green, blue = color
    return COLOR | red << 16 | green << 8 | blue


# ---- reading: the same for training and inference ----


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture turned as its EXIF says; one that can't be read is named."""
    try:
        with Image.open(path) as file:
            if file.width * file.height > PIXEL_LIMIT:
                raise InputError(
                    f"{path} has {file.width}×{file.height} pixels, more than {PIXEL_LIMIT:,}; cut it into smaller ones"
                )
            ImageOps.exif_transpose(file, in_place=True)
            yield file
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise a dozen kinds for damaged files
        raise InputError(
            f"{path} can't be read as a picture ({error or type(error).__name__}); replace it or take it out"
        ) from error


def read_image(path: Path) -> np.ndarray:
    """Any picture that Pillow knows, as uint8 (H, W, 3) RGB; transparency shows white."""
    with opened(path) as picture:
        if (
            picture.mode[0] in "IF"
        ):  # 16 bits or more in a channel: clipping to 8 would turn nearly all of it white
            values = np.nan_to_num(np.asarray(picture, np.float32), posinf=0, neginf=0)
            top = 65535 if picture.mode.startswith("I;16") else max(values.max(), 1)
            picture = Image.fromarray(np.clip(values * (255 / top) + 0.5, 0, 255).astype(np.uint8))
        image = np.empty((picture.height, picture.width, 3), np.uint8)
        for top in range(
            0, picture.height, 1024
        ):  # by parts: converted whole, a big picture would lie in memory three times
            part = picture.crop((0, top, picture.width, min(top + 1024, picture.height)))
            if part.has_transparency_data:
                part = Image.alpha_composite(
                    Image.new("RGBA", part.size, "white"), part.convert("RGBA")
                )
            image[top : top + 1024] = part.convert("RGB")
        return image


def check_palette(path: Path, picture: Image.Image, meaning: dict[int, int]) -> None:
    """A palette file's ids must not show other classes' colours: programs that turn colours into a palette number them as they like."""
    colors = np.reshape(picture.getpalette(), (-1, 3)).tolist()
    used = {
        value: meaning.get(color_key(colors[value])) if value < len(colors) else None
        for _, value in picture.getcolors()
    }
    wrong = [
        value
        for value, shown in used.items()
        if shown != meaning.get(value) and IGNORE not in (shown, meaning.get(value))
    ]
    if (
        wrong and len(used) > 1 and None not in used.values()
    ):  # one colour alone may agree by chance, as black does with many palettes' 0
        raise InputError(
            f"{path} is a palette picture whose value {wrong[0]} has the colour {tuple(colors[wrong[0]])}, which the class table gives to class "
            f"{used[wrong[0]]}; if its values are the ids, save it as a grey picture, if its colours are right, as RGB"
        )


def read_mask(path: Path, meaning: dict[int, int] | None = None) -> np.ndarray:
    """A mask's pixels as they lie on disk, int32 (H, W): ids of grey and palette files, COLOR | rgb of coloured ones;
    with meaning, a palette that contradicts it is an error."""
    with opened(path) as picture:
        if picture.mode == "P" and meaning:
            check_palette(path, picture, meaning)
        if picture.mode in (
            "1",
            "L",
            "P",
            "I",
            "I;16",
        ):  # a palette file's pixels are ids; its colours only show them
            return np.array(picture).astype(np.int32)
        rgb = np.array(picture.convert("RGB")).astype(np.int32)
        return COLOR | rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]


def count_values(path: Path) -> Counter:
    values, counts = np.unique(read_mask(path), return_counts=True)
    return Counter(dict(zip(values.tolist(), counts.tolist())))


def color_of(value: int) -> tuple[int, int, int]:
    """The colour of a mask's pixel; a grey file's value is its grey."""
    return (
        (value >> 16 & 255, value >> 8 & 255, value & 255)
        if value & COLOR
        else (value, value, value)
    )


def fingerprint(*parts) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def file_facts(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    """What changes when a file does."""
    return [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]


@contextmanager
def writing(place: Path) -> Iterator[None]:
    """A full or read-only disk ends in a sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{place} can't be written ({error.strerror or error}); what was there before is as it was. "
            "Make room, or give leave to write, and start again"
        ) from error


def sweep(folder: Path) -> None:
    """Take away what a killed process left half done, a day later, when nobody can be at it any more."""
    for path in folder.glob(".unfinished-*"):
        if time.time() - path.stat().st_mtime > 86400:
            shutil.rmtree(path, ignore_errors=True)


def describe_values(values: Counter) -> str:
    """Mask values as a person writes them, with their pixel counts, the commonest first."""
    shown = [
        f"{f'colour {color_of(value)}' if value & COLOR else value} ({count:,} pixels)"
        for value, count in values.most_common(8)
    ]
    return ", ".join(shown) + (f" and {len(values) - 8} more" if len(values) > 8 else "")


def read_ids(path: Path, meaning: dict[int, int]) -> np.ndarray:
    """A mask as class ids, uint8 (H, W). What the table doesn't know is an error, never class 0."""
    mask = read_mask(path, meaning)
    keys = np.array(sorted(meaning), np.int32)
    classes = np.array([meaning[key] for key in sorted(meaning)], np.uint8)
    ids, values = np.empty(mask.shape, np.uint8), Counter()
    for top in range(0, len(mask), 1024):  # by parts: each takes sixteen bytes a pixel meanwhile
        part = mask[top : top + 1024]
        place = np.minimum(np.searchsorted(keys, part), len(keys) - 1)
        values.update(part[keys[place] != part].tolist())
        ids[top : top + 1024] = classes[place]
    if values:
        is_smoothed = path.suffix.lower() in JPEG or len(values) > 16
        cure = (
            SMOOTHED
            if is_smoothed
            else "correct the mask, or add them to the classes.csv of a folder of your own (id 255 = ignore)"
        )
        raise InputError(f"{path} holds {describe_values(values)}, not in the class table; {cure}")
    return ids


def resize_image(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Image (H, W, 3) at size (height, width), averaging where it shrinks."""
    if image.shape[:2] == tuple(size):
        return image
    shrinks = image.shape[0] * image.shape[1] > size[0] * size[1]
    return cv2.resize(
        image, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def resize_mask(mask: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Ids can't be averaged: each pixel takes the nearest one, measured from pixel centres as resize_image does."""
    if mask.shape == tuple(size):
        return mask
    return cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)


# ---- sources: where a data set's pairs are, and what its masks mean ----


def list_files(folder: Path) -> list[Path]:
    try:
        return sorted(
            path
            for path in folder.iterdir()
            if not path.name.startswith(".") and path.name.lower() not in JUNK
        )
    except OSError as error:
        raise InputError(
            f"{folder} can't be read ({error.strerror}); give leave to read it"
        ) from error


class Source:
    """A data set as its owners lay it out. A new one says in find_pairs where its pairs are and in table what its masks' pixels mean,
    as CamVid does below; then it stands in SOURCES under its name."""

    is_published = True

    def __init__(self, root: Path):
        self.root = root
        self.problems: list[str] = []  # what has to be put right before any training
        self.notes: list[str] = []  # what is worth knowing

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
                    f"{path} is a folder where a picture was expected; only train, val and test may be folders"
                )
            elif path.stem in found:
                self.problems.append(
                    f"{path} and {found[path.stem].name} have the same stem; one picture has one file"
                )
            else:
                found[path.stem] = path
        return found

    def match(self, images: dict[str, Path], masks: dict[str, Path], split: str = "") -> list[Pair]:
        """Pairs of the same stem, or stem and stem_mask; each file that is left over is a problem."""
        for stem in [stem for stem in masks if stem not in images and stem.endswith("_mask")]:
            path, twin = masks.pop(stem), masks.get(stem.removesuffix("_mask"))
            if twin:
                self.problems.append(
                    f"{path} and {twin.name} are masks of one picture; take one out"
                )
            masks[stem.removesuffix("_mask")] = path
        self.problems += [
            f"{images[stem]} has no mask; take it out, or add one of the same name"
            for stem in sorted(images.keys() - masks.keys())
        ]
        self.problems += [
            f"{masks[stem]} has no image; take it out, or add one of the same name"
            for stem in sorted(masks.keys() - images.keys())
        ]
        return [
            Pair(images[stem], masks[stem], split) for stem in sorted(images.keys() & masks.keys())
        ]

    def match_folders(self, images: Path, masks: Path, split: str = "") -> list[Pair]:
        """The pairs of a folder of images and one of masks; of a split that has none at all, nothing."""
        if split and not (masks.is_dir() and list_files(masks)):
            self.notes.append(f"{images} is left out: there are no masks in {masks}")
            return []
        return self.match(self.by_stem(images), self.by_stem(masks), split)


class CamVid(Source):
    """The SegNet layout: train/ and trainannot/, val/ and valannot/, test/ and testannot/; grey masks of ids, 11 is void."""

    classes = {
        "sky": (128, 128, 128),
        "building": (128, 0, 0),
        "pole": (192, 192, 128),
        "road": (128, 64, 128),
        "pavement": (60, 40, 222),
        "tree": (128, 128, 0),
        "sign": (192, 128, 128),
        "fence": (64, 64, 128),
        "car": (64, 0, 128),
        "pedestrian": (64, 64, 0),
        "bicyclist": (0, 128, 192),
    }

    def find_pairs(self) -> list[Pair]:
        return [
            pair
            for split in SPLITS
            if (self.root / split).is_dir()
            for pair in self.match_folders(self.root / split, self.root / f"{split}annot", split)
        ]

    def table(self) -> Table:
        return Table(
            list(self.classes),
            list(self.classes.values()),
            {**{i: i for i in range(11)}, 11: IGNORE},
        )


class Carvana(Source):
    """train/*.jpg and train_masks/*_mask.gif, or all in one folder; 16 views of each car, named <car>_01 to <car>_16, stay together."""

    def find_pairs(self) -> list[Pair]:
        folders = [
            folder for name in ("train", "train_masks") if (folder := self.root / name).is_dir()
        ] or [self.root]
        files = dict(
            item
            for folder in folders
            for item in self.by_stem(folder, {*JPEG, ".gif", ".png"}).items()
        )
        pairs = self.match(
            {stem: path for stem, path in files.items() if not stem.endswith("_mask")},
            {stem: path for stem, path in files.items() if stem.endswith("_mask")},
        )
        return [pair._replace(group=pair.image.stem.rpartition("_")[0]) for pair in pairs]

    def table(self) -> Table:
        return Table(
            ["background", "car"],
            [(0, 0, 0), (255, 190, 0)],
            {0: 0, 1: 1, 255: 1, COLOR: 0, color_key((255, 255, 255)): 1},
        )


class VOC(Source):
    """VOCdevkit/VOC<year>/{JPEGImages,SegmentationClass,ImageSets/Segmentation}: palette masks, 255 = ignore, the owners' lists."""

    year, splits = "2012", ("train", "val")

    def find_pairs(self) -> list[Pair]:
        from torchvision.datasets import VOCSegmentation  # slow to import, so only here

        folder, found = self.root / "VOCdevkit" / f"VOC{self.year}", []
        if not (folder / "ImageSets" / "Segmentation" / "train.txt").exists():
            print(f"{folder} is not there; downloading it from its owners", flush=True)
            for split in sorted({*self.splits} - {"val"}):  # val comes with train
                try:
                    VOCSegmentation(self.root, self.year, split, download=True)
                except (OSError, RuntimeError) as error:
                    raise InputError(
                        f"{folder} is not there and can't be downloaded ({error}); unpack its owners' archive in {self.root}"
                    ) from error
        for split in self.splits:
            if not (folder / "ImageSets" / "Segmentation" / f"{split}.txt").exists():
                self.notes.append(
                    f"{split} is left out: there is no list of it in {folder / 'ImageSets' / 'Segmentation'}"
                )
                continue
            listed = VOCSegmentation(self.root, self.year, split)
            found += [
                Pair(Path(image), Path(mask), split)
                for image, mask in zip(listed.images, listed.masks)
            ]
        missing = [path for pair in found for path in pair[:2] if not path.exists()]
        self.problems += [f"{path} is not there, but the owners' lists name it" for path in missing]
        return [pair for pair in found if not {*missing} & {*pair[:2]}]

    def table(self) -> Table:
        from torchvision.models.segmentation import (
            DeepLabV3_ResNet50_Weights,
        )  # knows the names; nothing is downloaded

        names = ["background", *DeepLabV3_ResNet50_Weights.DEFAULT.meta["categories"][1:]]
        # The owners' palette: bit 3j + c of the id is bit 7 - j of colour c.
        colors = [
            tuple(sum((i >> 3 * j + c & 1) << 7 - j for j in range(3)) for c in range(3))
            for i in range(len(names))
        ]
        by_color = {color_key(color): i for i, color in enumerate(colors)}
        return Table(
            names,
            colors,
            {
                **{i: i for i in range(len(names))},
                **by_color,
                IGNORE: IGNORE,
                color_key((224, 224, 192)): IGNORE,
            },
        )


class VOC2007(VOC):
    year, splits = "2007", SPLITS


class Cityscapes(Source):
    """leftImg8bit/<split>/<city>/ and gtFine/<split>/<city>/: the official train and val with the 19 classes that are usually judged."""

    kinds = ("labelIds", "color")  # masks to look for, the better ones first

    def find_pairs(self) -> list[Pair]:
        found = []
        for image in sorted(self.root.glob("leftImg8bit/*/*/*_leftImg8bit.png")):
            split, city = image.parts[-3:-1]
            stem = self.root / "gtFine" / split / city / image.name.removesuffix("leftImg8bit.png")
            masks = [
                mask for kind in self.kinds if (mask := Path(f"{stem}gtFine_{kind}.png")).exists()
            ]
            if split in ("train", "val") and masks:
                found.append(Pair(image, masks[0], split, city))
            elif split in ("train", "val"):
                self.problems.append(
                    f"{image} has no mask {stem}gtFine_{' or '.join(self.kinds)}.png"
                )
        if (self.root / "leftImg8bit" / "test").is_dir():
            self.notes.append("test is left out: its owners keep its labels")
        return found

    def classes(self, labels) -> tuple[list[str], list[str]]:
        """The names of all classes in the order of their ids, and of those that are trained; labels are torchvision's."""
        names = [label.name for label in labels if not label.ignore_in_eval]
        return names, names

    def table(self) -> Table:
        from torchvision.datasets import Cityscapes as Official  # knows every label's id and colour

        names, trained = self.classes(Official.classes)
        colors = {label.name: label.color for label in Official.classes}
        class_of = {colors[name]: names.index(name) for name in trained}
        meaning = {
            IGNORE: IGNORE,
            34: IGNORE,
        }  # GTA5 writes a licence plate's id as 34, Cityscapes as -1 or 255
        for label in Official.classes:  # where colours are looked at first, labels of one colour (pole and group of poles) are one class
            if "color" in self.kinds:
                meaning[color_key(label.color)] = class_of.get(label.color, IGNORE)
            own = names.index(label.name) if label.name in trained else IGNORE
            meaning[label.id] = (
                class_of.get(label.color, IGNORE) if self.kinds[0] == "color" else own
            )
        return Table(names, [colors.get(name, (0, 0, 0)) for name in names], meaning)


class Cityscapes24(Cityscapes):
    """24 classes told apart by colour, in the order of a published tutorial; black and the rarest are ignored."""

    kinds = ("color", "labelIds")

    def classes(self, labels) -> tuple[list[str], list[str]]:
        names = (
            "void,building,pole,sky,vegetation,traffic sign,fence,traffic light,person,dynamic,car,road,sidewalk,parking,ground,terrain,"
            "bicycle,rider,wall,bus,bridge,motorcycle,train,truck"
        ).split(",")
        return names, names[1:]


class Cityscapes34(Cityscapes):
    """All 34 label ids as they are; those of void, 0 to 6, are ignored. Some share a colour, so it needs labelIds."""

    kinds = ("labelIds",)

    def classes(self, labels) -> tuple[list[str], list[str]]:
        own = [label for label in labels if label.id >= 0]
        return [label.name for label in own], [
            label.name for label in own if label.category != "void"
        ]


class GTA5(Cityscapes):
    """images/*.png and labels/*.png of the same names, in the ids or colours of Cityscapes, of which the usual 19 are trained."""

    def find_pairs(self) -> list[Pair]:
        images, labels = self.by_stem(self.root / "images"), self.by_stem(self.root / "labels")
        for stem in ("15188", "17705"):
            if images.pop(stem, None) and labels.pop(stem, None):
                self.notes.append(
                    f"{stem}.png is left out: its label has another size, as is known"
                )
        return self.match(images, labels)


class Folder(Source):
    """A folder of one's own: images/ and masks/ with the same stems (or stem_mask), and classes.csv for three classes or more.

    Either may lie in train, val and test folders: images/train and masks/train, or train/images and train/masks.
    """

    is_published = False

    def find_pairs(self) -> list[Pair]:
        root, pairs = self.root, []
        places = [
            (split, *folders)
            for split in SPLITS
            for folders in (
                (root / "images" / split, root / "masks" / split),
                (root / split / "images", root / split / "masks"),
            )
        ]
        layouts = [place for place in places if place[1].is_dir()]
        if not layouts:
            return self.match_folders(root / "images", root / "masks")
        for split, images, masks in layouts:
            pairs += self.match_folders(images, masks, split)
        self.problems += [
            f"{masks} has masks for pictures that are not there; expected them in {images}"
            for _, images, masks in places
            if masks.is_dir() and list_files(masks) and not images.is_dir()
        ]
        self.problems += [
            f"{path} is none of {', '.join(SPLITS)}; call it one of these, or take it out"
            for path in list_files(root)
            if path.name.lower() not in SPLITS
            and all(os.path.isdir(path / name) for name in ("images", "masks"))
        ]
        loose = [
            path
            for name in ("images", "masks")
            if (root / name).is_dir()
            for path in list_files(root / name)
            if path.name not in SPLITS
        ]
        self.problems += [
            f"{path} lies beside the folders of the splits; put it into one of them or take it out"
            for path in loose
        ]
        return pairs

    def table(self) -> Table:
        listed = self.root / "classes.csv"
        if not listed.exists():
            return self.binary_table()
        table = read_class_table(listed)
        greys = {color[0]: i for i, color in enumerate(table.colors) if len(set(color)) == 1}
        if len(greys) == len(table.colors) and self.mask_values().keys() - {IGNORE} <= greys.keys():
            table.meaning.update(
                greys
            )  # every class is a grey and the masks hold nothing else: greys they are, not ids
        return table

    def mask_values(self) -> Counter:
        """All values in all masks with their pixel counts, remembered for unchanged files."""
        masks = [pair.mask for pair in self.pairs]
        known = CACHE / f"values-{fingerprint(file_facts(masks))}.json"
        with suppress(OSError, ValueError):  # not there yet, or torn by a kill
            return Counter(
                {int(value): count for value, count in json.loads(known.read_text()).items()}
            )
        values: Counter = Counter()
        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for counted in threads.map(count_values, masks):
                values.update(counted)
        with writing(CACHE):
            CACHE.mkdir(parents=True, exist_ok=True)
            known.write_text(json.dumps(values))
        return values

    def binary_table(self) -> Table:
        """Without classes.csv two values mean background and object."""
        values = self.mask_values()
        ignored = {255} if set(values) == {0, 1, 255} else set()
        classes = sorted(set(values) - ignored)
        if len(classes) != 2:
            raise InputError(self.ask_for_table(values))
        return Table(
            ["background", "object"],
            [(0, 0, 0), (255, 190, 0)],
            {classes[0]: 0, classes[1]: 1, **dict.fromkeys(ignored, IGNORE)},
        )

    def ask_for_table(self, values: Counter) -> str:
        found = f"the masks in {self.root} hold {len(values)} values: {describe_values(values)}"
        classes = sorted(values.keys() - {IGNORE})
        are_ids = classes == list(range(len(classes)))
        has_jpeg = any(pair.mask.suffix.lower() in JPEG for pair in self.pairs)
        if has_jpeg or len(values) > 40 and (not are_ids or len(values) == 256):
            return f"{found}; {SMOOTHED}"
        rows = [
            (i, *((i * 67 % 256, i * 131 % 256, i * 197 % 256) if are_ids else color_of(value)))
            for i, value in enumerate(classes)
        ]
        listed = "\n".join(f"{i},class{i},{red},{green},{blue}" for i, red, green, blue in rows)
        return (
            f"{found}; two values would mean background and object, others need {self.root / 'classes.csv'}. "
            f"To start from, with names of your own:\nid,name,red,green,blue\n{listed}"
        )


def read_class_table(path: Path) -> Table:
    """classes.csv with the columns id,name,red,green,blue; rows of id 255 name colours to ignore."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        table = {
            int(row["id"]): (row["name"], (int(row["red"]), int(row["green"]), int(row["blue"])))
            for row in rows
            if int(row["id"]) != IGNORE
        }
        ignored = [
            (int(row["red"]), int(row["green"]), int(row["blue"]))
            for row in rows
            if int(row["id"]) == IGNORE
        ]
        if any(
            not 0 <= number <= 255
            for color in (*(color for _, color in table.values()), *ignored)
            for number in color
        ):
            raise ValueError("a colour outside 0 to 255")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} can't be understood ({error}); expected UTF-8 text with the columns id,name,red,green,blue and whole numbers"
        ) from error
    if (
        sorted(table) != list(range(len(table)))
        or len(table) < 2
        or len(table) + len(ignored) != len(rows)
    ):
        raise InputError(
            f"{path} has the ids {[row['id'] for row in rows]}; expected 0, 1, 2, … each once (and 255 for colours to ignore)"
        )
    names, colors = zip(*(table[i] for i in range(len(table))))
    by_color = {
        color_key(color): i
        for i, color in [*((IGNORE, color) for color in ignored), *enumerate(colors)]
    }
    return Table(
        list(names), list(colors), {IGNORE: IGNORE, **{i: i for i in range(len(names))}, **by_color}
    )


class Streets(Folder):
    """The drawn street scenes: laid out like a folder of one's own, and drawn when they are first needed."""

    @cached_property
    def maker(self):
        try:
            from Dataset import make_streets
        except ImportError as error:
            raise InputError(
                "Dataset/make_streets.py is not there, which draws Streets; get it back from the project, or name another dataset"
            ) from error
        return make_streets

    def find_pairs(self) -> list[Pair]:
        if not self.root.exists():
            sweep(self.root.parent)
            with writing(self.root):
                self.maker.make_streets(self.root)
        return super().find_pairs()

    def table(self) -> Table:
        names, colors = zip(*self.maker.CLASSES)
        return Table(
            list(names), list(colors), {**{i: i for i in range(len(names))}, IGNORE: IGNORE}
        )


SOURCES = {
    "streets": Streets,
    "cityscapes": Cityscapes,
    "cityscapes24": Cityscapes24,
    "cityscapes34": Cityscapes34,
    "carvana": Carvana,
    "voc2007": VOC2007,
    "voc2012": VOC,
    "gta5": GTA5,
    "camvid": CamVid,
}


def open_source(dataset: str, data_dir: str) -> Source:
    """The source that train.py's constants name: one of SOURCES in data_dir, or in a folder there of its name, or a folder of one's own."""
    if dataset == "streets":
        return Streets(Path(data_dir, dataset))
    if dataset in SOURCES:
        folders = {
            path.name.lower(): path for path in sorted(Path(data_dir).glob("*")) if path.is_dir()
        }
        root = (
            folders.get(dataset) or folders.get(dataset.rstrip("0123456789")) or Path(data_dir)
        )  # cityscapes24 may lie in Cityscapes
        return SOURCES[dataset](root)
    for root in (Path(dataset), Path(data_dir, dataset)):
        if root.is_dir():
            return Folder(root)
    raise InputError(f"dataset is {dataset!r}, neither a folder nor one of {', '.join(SOURCES)}")


# ---- preparing: every file read once before any training, checked, counted, and kept at image_size ----


@dataclass
class Data:
    """A data set ready to train on: row i of everything belongs to pairs[i]."""

    name: str
    table: Table
    pairs: list[Pair]
    splits: dict[str, list[int]]  # rows of train, val and test; a split without pairs is left out
    image_size: tuple[int, int]
    cache: Path | None  # folder with images.npy and masks.npy, or None: decode every time
    sizes: np.ndarray  # (N, 2) heights and widths on disk
    pixels: np.ndarray  # (N, 256) pixels of each class id, counted at the size on disk
    digests: np.ndarray  # (N,) of the images' pixels
    notes: list[str]  # what the source left out, and why

    def read(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Image (H, W, 3) and mask (H, W), both uint8 at image_size."""
        if self.cache:
            return np.array(open_array(self.cache / "images.npy")[row]), np.array(
                open_array(self.cache / "masks.npy")[row]
            )
        image, mask, *_ = read_pair(self.pairs[row], self.table.meaning, self.image_size)
        return image, mask

    def read_full_mask(self, row: int) -> np.ndarray:
        return read_ids(self.pairs[row].mask, self.table.meaning)

    def fingerprint(self) -> str:
        """The same for the same pictures, masks and splits, wherever they lie."""
        return fingerprint(
            self.table.names,
            self.splits,
            *(array.tobytes() for array in (self.sizes, self.pixels, self.digests)),
        )

    def scale(self) -> float:
        """Pixels at image_size per pixel on disk, along one side, in the typical training picture."""
        height, width = self.sizes[self.splits["train"]].T
        return float(np.median(np.sqrt(self.image_size[0] * self.image_size[1] / (height * width))))


@lru_cache(maxsize=8)
def open_array(path: Path) -> np.ndarray:
    """A cached array as the disk holds it, opened once in each process; pages come in as they are read."""
    return np.load(path, mmap_mode="r")


def read_pair(
    pair: Pair, meaning: dict[int, int] | None, image_size: Sequence[int]
) -> tuple[np.ndarray, np.ndarray, tuple]:
    """Image and mask at image_size; and what is known of them at their own: its height and width, the pixels of each class, the image's digest."""
    image = read_image(pair.image)
    mask = (
        read_ids(pair.mask, meaning) if meaning else np.zeros_like(read_mask(pair.mask), np.uint8)
    )  # without a table its size is all to check
    if image.shape[:2] != mask.shape:
        raise InputError(
            f"{pair.image} is {image.shape[1]}×{image.shape[0]} (width×height) but {pair.mask} is "
            f"{mask.shape[1]}×{mask.shape[0]}; a mask has its image's size"
        )
    digest = int.from_bytes(
        hashlib.blake2b(image, digest_size=7, salt=str(image.shape[1]).encode()).digest()
    )
    return (
        resize_image(image, image_size),
        resize_mask(mask, image_size),
        (mask.shape, np.bincount(mask.ravel(), minlength=256), digest),
    )


def split_pairs(pairs: list[Pair], seed: int) -> dict[str, list[int]]:
    """The owner's splits where there are any, else 70/15/15 by seed; a group of pairs is never taken apart.

    Where the owner has no val, 15 % of train become it: the best weights are not chosen by the pictures that judge them.
    """
    owned = {split: [i for i, pair in enumerate(pairs) if pair.split == split] for split in SPLITS}
    if any(pair.split for pair in pairs) and not owned["train"]:
        raise InputError(
            f"no pairs to train on, only {', '.join(split for split in SPLITS if owned[split])}; expected some in train"
        )
    groups: dict[str, list[int]] = {}
    for i in owned["train"] or range(len(pairs)):
        groups.setdefault(pairs[i].group or str(i), []).append(i)
    if len(groups) < 2 and not owned["val"]:
        raise InputError(
            f"{len(groups)} pair of image and mask found to train on; expected at least 2, one of them to judge by"
        )
    if not owned["val"]:
        drawn = [
            list(groups.values())[i] for i in np.random.default_rng(seed).permutation(len(groups))
        ]
        held_out = max(1, round(0.15 * len(groups)))
        rest = (
            held_out if owned["train"] or len(groups) == 2 else 2 * held_out
        )  # the owner's test stays; of two groups none is left for one
        parts = {"train": drawn[rest:], "val": drawn[:held_out], "test": drawn[held_out:rest]}
        owned |= {
            split: sorted(itertools.chain(*chosen)) for split, chosen in parts.items() if chosen
        }
    return {split: rows for split, rows in owned.items() if rows}


def read_all(
    pairs: list[Pair],
    meaning: dict[int, int] | None,
    image_size: tuple[int, int],
    folder: Path,
    keep_pictures: bool,
) -> list[str]:
    """Read every pair on all cores into arrays in folder; returns what is wrong with any of them."""
    problems: list[str] = []
    sizes, pixels, digests = (
        np.zeros((len(pairs), 2), np.int64),
        np.zeros((len(pairs), 256), np.int64),
        np.zeros(len(pairs), np.int64),
    )
    if keep_pictures:
        images = np.lib.format.open_memmap(
            folder / "images.npy", "w+", np.uint8, (len(pairs), *image_size, 3)
        )
        masks = np.lib.format.open_memmap(
            folder / "masks.npy", "w+", np.uint8, (len(pairs), *image_size)
        )
        if hasattr(
            os, "posix_fallocate"
        ):  # a full disk is found out here; met through memory later, it would kill the process
            for name in ("images", "masks"):
                with open(folder / f"{name}.npy", "r+b") as file:
                    os.posix_fallocate(file.fileno(), 0, os.path.getsize(file.name))

    def read_one(row: int) -> None:
        try:
            image, mask, (sizes[row], pixels[row], digests[row]) = read_pair(
                pairs[row], meaning, image_size
            )
        except InputError as problem:
            problems.append(str(problem))
            return
        except MemoryError:
            problems.append(
                f"{pairs[row].image} or its mask is too big for this machine's memory; cut it into smaller ones"
            )
            return
        if keep_pictures:
            images[row], masks[row] = image, mask

    with ThreadPoolExecutor(
        os.cpu_count()
    ) as threads:  # decoding and resizing leave Python's lock alone
        list(
            tqdm(
                threads.map(read_one, range(len(pairs))),
                "reading all pairs once",
                len(pairs),
                unit="pair",
                leave=False,
            )
        )
    for name, array in zip(FACTS, (sizes, pixels, digests)):
        np.save(folder / f"{name}.npy", array)
    if keep_pictures:
        images.flush()
        masks.flush()
    for (
        path
    ) in folder.iterdir():  # on the disk before the folder gets its name, also if the power fails
        with open(path, "r+b") as file:
            os.fsync(file.fileno())
    return sorted(problems)


def is_whole(folder: Path, count: int, keep_pictures: bool) -> bool:
    """Whether a cache folder is there with all that belongs to it."""
    try:
        arrays = [
            np.load(folder / f"{name}.npy", mmap_mode="r")
            for name in (*FACTS, *(("images", "masks") if keep_pictures else ()))
        ]
    except (OSError, ValueError, EOFError):
        return False
    return all(len(array) == count for array in arrays)


def fill_cache(
    folder: Path,
    place: str,
    pairs: list[Pair],
    meaning: dict[int, int] | None,
    image_size: tuple[int, int],
    keep_pictures: bool,
) -> list[str]:
    """Read everything into a folder aside; where nothing is wrong, put it in place of what was there for other or damaged files."""
    CACHE.mkdir(parents=True, exist_ok=True)
    sweep(CACHE)
    aside = Path(tempfile.mkdtemp(dir=CACHE, prefix=".unfinished-"))
    unfinished = aside / folder.name  # its own folder, as mkdtemp's is closed to other users
    try:
        unfinished.mkdir()
        problems = read_all(pairs, meaning, image_size, unfinished, keep_pictures)
        if not problems:
            for outdated in CACHE.glob(f"{glob.escape(place)}-*"):
                if outdated != folder:
                    shutil.rmtree(outdated, ignore_errors=True)
            if folder.exists() and not is_whole(
                folder, len(pairs), keep_pictures
            ):  # if it is whole, another run was quicker
                folder.rename(aside / "torn")
                open_array.cache_clear()
            if not folder.exists():
                unfinished.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return problems


def same_pictures(data: Data) -> list[str]:
    """Pictures that stand in two splits under two names."""
    found, first = [], {}
    for split, rows in data.splits.items():
        for row in rows:
            other, where = first.setdefault(int(data.digests[row]), (row, split))
            if where != split:
                found.append(
                    f"{data.pairs[row].image} in {split} is the same picture as {data.pairs[other].image} in {where}; take one of them out"
                )
    return found


def check_whole(data: Data, is_published: bool) -> list[str]:
    """What no file shows by itself; what is amiss in a published data set is noted and stays as its owners made it."""
    data.notes += [
        f"{split} has no pixel with a class: its scores stay empty"
        for split, rows in data.splits.items()
        if not data.pixels[rows, : len(data.table.names)].any()
    ]
    if is_published:
        data.notes += same_pictures(data)
        return []
    absent = [
        f"{i} {name}" for i, name in enumerate(data.table.names) if not data.pixels[:, i].any()
    ]
    return same_pictures(data) + [
        f"no mask has a pixel of class {name}; take its row out of classes.csv, or mend the masks"
        for name in absent
    ]


@contextmanager
def noted(problems: list[str]) -> Iterator[None]:
    """Go on after a problem, so that all of them are named at once."""
    try:
        yield
    except InputError as problem:
        problems.append(str(problem))


def prepare(
    dataset: str, data_dir: str, image_size: tuple[int, int], cache: bool = True, seed: int = 0
) -> Data:
    """Read every file once, whatever is wrong with any named in one InputError; for unchanged files only the first time."""
    source = open_source(dataset, data_dir)
    pairs, table, splits = source.pairs, None, {}
    problems = list(source.problems)
    if not pairs and not problems:
        raise InputError(
            f"dataset {dataset} has no pairs of image and mask in {source.root}; Dataset/readme.md shows the tree that is expected"
        )
    if pairs:
        with noted(problems):
            splits = split_pairs(pairs, seed)
        with noted(problems):
            table = source.table()

    origin = fingerprint(str(source.root.resolve()), table and table.meaning)
    place = f"{source.root.name}-{image_size[0]}x{image_size[1]}-{'kept' if cache else 'checked'}-{origin}"
    # What is checked stands in the name, so that files which were read before it was checked are read again.
    folder = (
        CACHE
        / f"{place}-{fingerprint('palettes checked', FACTS, file_facts([path for pair in pairs for path in pair[:2]]))}"
    )
    if not is_whole(folder, len(pairs), cache):
        with writing(CACHE):
            problems += fill_cache(folder, place, pairs, table and table.meaning, image_size, cache)
    if not problems:
        facts = [np.load(folder / f"{name}.npy") for name in FACTS]
        data = Data(
            source.root.name,
            table,
            pairs,
            splits,
            tuple(image_size),
            folder if cache else None,
            *facts,
            source.notes,
        )
        problems += check_whole(data, source.is_published)
    if problems := list(dict.fromkeys(problems)):
        raise InputError(
            f"{len(problems)} thing(s) to put right in {source.root}, where {len(pairs)} pairs were found:\n"
            + "\n".join(problems)
        )
    for name in ("images", "masks") if cache else ():
        open_array(
            folder / f"{name}.npy"
        )  # held from here on, even if another process makes the cache anew meanwhile
    return data


# ---- the stream: position p of a run names the sample and its augmentation ----


def make_augment(
    size: Sequence[int], names: str, strength: float = 1.0
) -> "albumentations.Compose":
    """What may differ between two pictures of the same thing; geometry moves image and mask together, colour the image alone;
    all comes out at `size`.

    strength is how far zoom and colour go; at 1, zoom takes six tenths of the area or more, in three pictures of ten.
    """
    import albumentations as A  # slow to import; inference.py never needs it

    height, width = size
    light, dye = (
        (max(0, 1 - 0.2 * strength), 1 + 0.2 * strength),
        (max(0, 1 - 0.3 * strength), 1 + 0.3 * strength),
    )
    known = {
        "zoom": A.RandomResizedCrop(
            (height, width),
            scale=(3 / (3 + 2 * strength), 1),
            ratio=(0.85 * width / height, 1.18 * width / height),
            mask_interpolation=cv2.INTER_NEAREST_EXACT,
            p=min(1, 0.3 * strength),
        ),  # nearer or farther
        "rotate": A.Rotate(
            35, fill_mask=IGNORE, p=1
        ),  # for things without an up and a down; the corners that come in belong to no class
        "flip": A.HorizontalFlip(
            p=0.5
        ),  # streets are streets in a mirror; for writing or left-hand traffic this would go
        "vflip": A.VerticalFlip(p=0.1),
        "color": A.ColorJitter(
            brightness=light, contrast=light, saturation=dye, hue=min(0.5, 0.02 * strength), p=1
        ),  # no two epochs are alike
        "grey": A.ToGray(p=0.05),
    }  # a grey picture has the same classes
    chosen = names.split("+") if names else []
    if unknown := set(chosen) - known.keys():
        raise InputError(
            f"augment is {names!r}, of which {unknown.pop()!r} is unknown; expected {', '.join(known)} or some of them such as flip+color"
        )
    shrink = A.Resize(
        height, width, interpolation=cv2.INTER_AREA, mask_interpolation=cv2.INTER_NEAREST_EXACT
    )  # what zoom has not brought to that size
    return A.Compose([*(known[name] for name in chosen), shrink])


@lru_cache(maxsize=2)
def shuffled(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)


class SegmentationDataset(Dataset):
    """One split. With augment, item p is position p of an endless run; without, item i is the i-th pair as it is."""

    def __init__(
        self, data: Data, split: str, augment: "albumentations.Compose | None" = None, seed: int = 0
    ):
        self.data, self.rows, self.augment, self.seed = data, data.splits[split], augment, seed

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, position: int) -> int:
        """The pair that stands at a position: each epoch has every pair once, in an order of its own."""
        epoch, place = divmod(position, len(self.rows))
        return self.rows[shuffled(self.seed, epoch, len(self.rows))[place]]

    def __getitem__(self, position: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Image uint8 (3, H, W), whose channels lie together in memory, and mask uint8 (H, W)."""
        if self.augment is None:
            image, mask = self.data.read(self.rows[position])
        else:
            image, mask = self.data.read(self.row(position))
            # Seeded by position alone, so that neither workers nor resuming change it, and no two positions draw alike.
            self.augment.set_random_state(
                np.random.default_rng((self.seed, position)),
                random.Random(f"{self.seed} {position}"),
            )
            both = self.augment(image=image, mask=mask)
            image, mask = both["image"], both["mask"]
        return torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1), torch.from_numpy(
            np.ascontiguousarray(mask)
        )


def stack(samples: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch: images uint8 (B, 3, H, W) in channels_last order, as decoders and the net have it, so that nothing is turned round; masks (B, H, W)."""
    images, masks = zip(*samples)
    return torch.stack([image.permute(1, 2, 0) for image in images]).permute(
        0, 3, 1, 2
    ), torch.stack(masks)


def leave_signals_to_parent(_: int) -> None:
    """Ctrl-C reaches workers too; the training process finishes its step first, and needs them for it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def training_batches(
    dataset: SegmentationDataset,
    batch_size: int,
    first: int = 0,
    num_workers: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> Iterator:
    """Batches of the positions from `first` on, without end; with several processes each of them takes every so manieth batch."""
    starts = itertools.count(first + rank * batch_size, processes * batch_size)
    positions = (range(start, start + batch_size) for start in starts)
    return iter(
        DataLoader(
            dataset,
            batch_sampler=positions,
            num_workers=num_workers,
            collate_fn=stack,
            pin_memory=torch.cuda.is_initialized(),
            prefetch_factor=4 if num_workers else None,
            worker_init_fn=leave_signals_to_parent,
            generator=torch.Generator(),
        )
    )  # its own: it must not draw from the one that dropout uses


def ordered_batches(
    dataset: SegmentationDataset,
    batch_size: int,
    batches: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> Iterator:
    """A split without augmentation, as batches in order; or that many batches of pairs taken evenly from all of it; shared among processes."""
    count = min(len(dataset), batches * batch_size) if batches else len(dataset)
    chosen = np.linspace(0, len(dataset) - 1, count).round().astype(int)[rank::processes]
    return iter(
        DataLoader(
            dataset,
            batch_size,
            sampler=chosen.tolist(),
            collate_fn=stack,
            generator=torch.Generator(),
        )
    )


# ---- the report ----


def report(data: Data) -> str:
    """Pairs, sizes, splits, and each class's share of pixels in each split."""
    sizes = Counter(map(tuple, data.sizes.tolist()))
    shown = ", ".join(
        f"{width}×{height} ({count})" for (height, width), count in sizes.most_common(5)
    )
    lines = [
        f"{data.name}: {len(data.pairs)} pairs; sizes (width×height): {shown}{' and others' if len(sizes) > 5 else ''}",
        "splits: " + ", ".join(f"{split} {len(rows)}" for split, rows in data.splits.items()),
        f"{'id':>3}  {'class':<16}" + "".join(f"{split:>9}" for split in data.splits),
    ]
    counts = {split: data.pixels[rows].sum(axis=0) for split, rows in data.splits.items()}
    for i, name in [*enumerate(data.table.names), (IGNORE, "ignored")]:
        shares = [counted[i] / counted.sum() for counted in counts.values()]
        lines.append(
            f"{i:>3}  {name:<16}"
            + "".join(f"{share:>9.2%}" if share else f"{'-':>9}" for share in shares)
        )
    return "\n".join(lines + data.notes)


def main() -> None:
    import train  # its constants; both come later in reading order
    import utils

    train.check_settings()
    data = prepare(train.dataset, train.data_dir, train.image_size, train.cache, train.seed)
    print(report(data))
    stream = SegmentationDataset(
        data,
        "train",
        make_augment(train.training_size(), train.augment, train.augment_strength),
        train.seed,
    )
    samples = [stream[position] for position in range(12)]
    path = Path("TrainingOutput") / f"samples-{data.name}.png"
    utils.save_picture(path, utils.sample_sheet(samples, data.table.names, data.table.colors))
    print(f"no problems found; augmented samples are in {path}")


if __name__ == "__main__":
    import dataset  # this file under its own name: an error raised by __main__ would be of another class than the one utils knows
    import train
    import utils

    utils.run_script(vars(train), dataset.main)
