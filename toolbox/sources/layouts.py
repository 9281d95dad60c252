"""Which folders hold a data set's pictures and which its masks, where people call them otherwise
than images and masks: by the words in their names, never by a choice between two."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from toolbox.errors import InputError, few
from toolbox.files import list_files
from toolbox.sources.base import SPLITS

PICTURES = set(".png .jpg .jpeg .jfif .jpe .bmp .tif .tiff .gif .webp .ppm .pgm .jp2 .npy".split())
SPLIT_WORDS = {"train": "train", "training": "train", "val": "val", "valid": "val"}
SPLIT_WORDS |= {"validation": "val", "test": "test", "testing": "test"}
IMAGE_WORDS = set(
    "images image imgs img pictures picture pics photos photo original originals input inputs "
    "jpegimages frames x".split()
)
MASK_WORDS = set(
    "masks mask labels label annotations annotation annot ann anno gt truth groundtruth seg segs "
    "segmentation segmentations target targets trimap trimaps manual y".split()
)
NO_CLASSES = set("object objects instance instances visualization overlay overlays".split())


class Layout(NamedTuple):
    """Where pairs lie: a folder of images and one of masks, or one folder that holds both."""

    split: str
    images: Path
    masks: Path
    is_usual: bool = True  # called images and masks
    endings: frozenset[str] = frozenset()  # of images, where other things may lie beside them


class Role(NamedTuple):
    """What a folder's name says: train, val, test or nothing, and images, masks or nothing."""

    split: str
    kind: str


def words_of(name: str) -> list[str]:
    """x_train, XTrain and trainX have the words x and train."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    longest_first = "|".join(sorted(SPLIT_WORDS, key=len, reverse=True))
    words = []
    for word in re.findall(r"[^\W_]+", parted.casefold()):
        glued = re.fullmatch(rf"({longest_first})(\D+)", word)  # trainannot
        known = IMAGE_WORDS | MASK_WORDS
        words += glued.groups() if glued and glued[2] in known else [word]
    return words


def role_of(folder: Path) -> Role:
    words = {*words_of(folder.name)}
    splits = {SPLIT_WORDS[word] for word in words & SPLIT_WORDS.keys()}
    split = splits.pop() if len(splits) == 1 else ""
    if words & NO_CLASSES:
        return Role(split, "other")
    if words & MASK_WORDS:  # label_images are masks
        return Role(split, "masks")
    if words & IMAGE_WORDS:
        return Role(split, "images")
    if split and words <= SPLIT_WORDS.keys():
        return Role(split, "")
    return Role(split, "other")


def folders_in(folder: Path) -> list[Path]:
    return [path for path in list_files(folder) if path.is_dir()]


def pictures_in(folder: Path) -> list[Path]:
    """Files whose names end as pictures' or arrays' do."""
    return [path for path in list_files(folder) if path.suffix.lower() in PICTURES]


def inner_folder(folder: Path) -> Path:
    """What an archive holds often lies in one folder more: that, unless it is images, train, …"""
    known = IMAGE_WORDS | MASK_WORDS | SPLIT_WORDS.keys()
    while True:
        there = list_files(folder)
        if len(there) != 1 or not there[0].is_dir() or {*words_of(there[0].name)} <= known:
            return folder
        folder = there[0]


def class_folders(folder: Path) -> list[Path]:
    """A folder of masks for each class, where these lie in folders and none beside them."""
    if not folder.is_dir() or pictures_in(folder):
        return []
    inner = folders_in(folder)
    if all(path.name.casefold() in SPLIT_WORDS for path in inner):  # a train may be a class too
        return []
    found = [path for path in inner if pictures_in(path)]
    if len(found) == 1 and role_of(found[0]).kind == "masks":  # annotations/trimaps: of all classes
        return []
    return found


def object_folders(root: Path) -> list[Path]:
    """A folder for each picture, where each has one in images/, and in masks/ any number."""
    inner = folders_in(root)
    counts = []
    for folder in inner:
        images, masks = folder / "images", folder / "masks"
        if not (images.is_dir() and len(pictures_in(images)) == 1):
            return []
        count = len(pictures_in(masks)) if masks.is_dir() else 0
        counts.append(count)
    return inner if len(inner) > 1 and max(counts) > 1 else []


# ---- layouts ----


def nested(folder: Path) -> Path:
    """images/images, where nothing else is in images: archives are often unpacked so."""
    there = list_files(folder) if folder.is_dir() else []
    if len(there) == 1 and there[0].is_dir() and there[0].name == folder.name:
        return there[0]
    return folder


def usual_layouts(root: Path) -> list[Layout]:
    """images/ and masks/, either in train, val and test folders or with such in them."""
    every = []
    for split in SPLITS:
        every.append(Layout(split, root / "images" / split, root / "masks" / split))
        every.append(Layout(split, root / split / "images", root / split / "masks"))
    present = [layout for layout in every if layout.images.is_dir()]
    return present or [Layout("", nested(root / "images"), nested(root / "masks"))]


def has_other_splits(root: Path, has_splits: bool) -> bool:
    """Whether some of such folders are called valid or Train, not val or train."""
    inner = []
    if has_splits:
        inner = [folder for folder in folders_in(root) if has_masks(usual_layouts(folder))]
    for name in ("images", "masks"):
        if (root / name).is_dir():
            inner += list_files(root / name)
    others = [path for path in inner if path.name.casefold() in SPLIT_WORDS]
    return any(path.name not in SPLITS and path.is_dir() for path in others)


def has_masks(layouts: Sequence[Layout]) -> bool:
    return any(layout.images.is_dir() and layout.masks.is_dir() for layout in layouts)


class ByName:
    """The folders of a data set by what their names say."""

    def __init__(self, root: Path):
        self.root = root
        self.by_role: dict[Role, list[Path]] = {}
        self.add(Role("", ""), root)
        for folder in map(nested, folders_in(root)):
            role = role_of(folder)
            if role.kind != "other":
                self.add(role, folder)
                self.look_into(folder, role)

    def add(self, role: Role, folder: Path) -> None:
        if pictures_in(folder) or role.kind == "masks" and class_folders(folder):
            self.by_role.setdefault(role, []).append(folder)

    def look_into(self, folder: Path, role: Role) -> None:
        """images/train and train/images: what one name leaves open, the other says."""
        for inner in folders_in(folder):
            split, kind = role_of(inner)
            if role.split and not role.kind and not split and kind in ("images", "masks"):
                self.add(Role(role.split, kind), inner)
            elif role.kind and not role.split and split and not kind:
                self.add(Role(split, role.kind), inner)
            elif role == Role(split, kind) == Role("", "masks") and not pictures_in(folder):
                if not class_folders(folder):  # annotations/trimaps
                    self.add(role, inner)

    def one(self, split: str, kind: str) -> Path | None:
        """The one folder of this role; two are no reason to choose."""
        found = self.by_role.get(Role(split, kind), [])
        if len(found) > 1:
            what = kind or "pictures"
            of = f" of {split}" if split else ""
            raise InputError(
                f"{few([str(path) for path in found], 6)} may each hold the {what}{of}; which "
                "one is not to be guessed: call the right one "
                f"{kind or split}, and take the others out of {self.root}"
            )
        return found[0] if found else None

    def layout(self, split: str) -> Layout | None:
        images, masks = self.one(split, "images"), self.one(split, "masks")
        if images and masks:
            return Layout(split, images, masks, is_usual=False)
        images = images or self.one(split, "")
        if images:
            return Layout(split, images, masks or images, False, frozenset(PICTURES))
        return None

    def layouts(self) -> list[Layout]:
        found = [layout for layout in map(self.layout, ("", *SPLITS)) if layout]
        for split in SPLITS:
            masks = self.by_role.get(Role(split, "masks"), [])
            if masks and not any(layout.split == split for layout in found):
                raise InputError(
                    f"{masks[0]} has masks for pictures that are not there; expected their "
                    f"pictures in {self.root / split / 'images'}"
                )
        return found


def named_layouts(root: Path) -> list[Layout]:
    """Layouts by the words in the folders' names; of pictures without masks too, in which these may
    lie side by side."""
    return ByName(root).layouts()
