"""Reading pictures and masks: any kind of file to RGB, a mask's pixels as they lie on disk,
class tables, sizes."""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageOps

from toolbox.errors import InputError

IGNORE = 255  # a pixel without a class: no loss, no metric
COLOR = 1 << 24  # marks a pixel that holds a colour: ids and colours find their class in one table
JPEG = {".jpg", ".jpeg"}
SMOOTHED = (
    "so many come from saving as JPEG or resizing with smoothing: save masks as PNG, resize them "
    "with nearest neighbour"
)
PIXEL_LIMIT = 500_000_000  # a small file may unpack to any size; this much takes 1.5 GB
ROWS = 1024  # worked on at once: whole, a big picture would lie in memory several times
Image.MAX_IMAGE_PIXELS = None  # opened() sees to it, with one sentence for every kind of file
cv2.setNumThreads(0)  # pictures are worked on side by side already


class Table(NamedTuple):
    """The classes in the order of their ids, and what a mask's pixels mean.

    meaning leads from a value, or COLOR | rgb, to a class id or IGNORE.
    """

    names: list[str]
    colors: list[tuple[int, int, int]]
    meaning: dict[int, int]

    def described(self) -> list[dict]:
        """The classes as a checkpoint holds them."""
        pairs = zip(self.names, self.colors)
        return [{"name": name, "color": list(color)} for name, color in pairs]


def color_key(color: Sequence[int]) -> int:
    red, green, blue = color
    return COLOR | red << 16 | green << 8 | blue


def color_of(value: int) -> tuple[int, int, int]:
    """The colour of a mask's pixel; a grey file's value is its grey."""
    if value & COLOR:
        return value >> 16 & 255, value >> 8 & 255, value & 255
    return value, value, value


def describe_values(values: Counter) -> str:
    """Mask values as a person writes them, with their pixel counts, the commonest first."""
    shown = []
    for value, count in values.most_common(8):
        name = f"colour {color_of(value)}" if value & COLOR else value
        shown.append(f"{name} ({count:,} pixels)")
    more = f" and {len(values) - 8} more" if len(values) > 8 else ""
    return ", ".join(shown) + more


# ---- pictures ----


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture turned as its EXIF says; one that can't be read is named."""
    try:
        with Image.open(path) as file:
            if file.width * file.height > PIXEL_LIMIT:
                raise InputError(
                    f"{path} has {file.width}×{file.height} pixels, more than {PIXEL_LIMIT:,}; "
                    "cut it into smaller ones"
                )
            ImageOps.exif_transpose(file, in_place=True)
            yield file
    except (InputError, MemoryError):
        raise
    except Exception as error:  # Pillow's readers raise a dozen kinds for damaged files
        raise InputError(
            f"{path} can't be read as a picture ({error or type(error).__name__}); "
            "replace it or take it out"
        ) from error


def to_8_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of more bits, by its range: clipped to 8, nearly all of it would turn
    white."""
    values = np.nan_to_num(np.asarray(picture, np.float32), posinf=0, neginf=0)
    top = 65535 if picture.mode.startswith("I;16") else max(values.max(), 1)
    return Image.fromarray(np.clip(values * (255 / top) + 0.5, 0, 255).astype(np.uint8))


def read_image(path: Path) -> np.ndarray:
    """Any picture that Pillow knows, as uint8 (H, W, 3) RGB; transparency shows white."""
    with opened(path) as picture:
        if picture.mode[0] in "IF":
            picture = to_8_bits(picture)
        image = np.empty((picture.height, picture.width, 3), np.uint8)
        for top in range(0, picture.height, ROWS):
            part = picture.crop((0, top, picture.width, min(top + ROWS, picture.height)))
            if part.has_transparency_data:
                white = Image.new("RGBA", part.size, "white")
                part = Image.alpha_composite(white, part.convert("RGBA"))
            image[top : top + ROWS] = part.convert("RGB")
        return image


def resize_image(image: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Image (H, W, 3) at size (height, width), averaging where it shrinks."""
    if image.shape[:2] == tuple(size):
        return image
    shrinks = image.shape[0] * image.shape[1] > size[0] * size[1]
    kind = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, (size[1], size[0]), interpolation=kind)


# ---- masks ----


def check_palette(path: Path, picture: Image.Image, meaning: dict[int, int]) -> None:
    """A palette file's ids must not show other classes' colours.

    Programs that turn colours into a palette number them as they like.
    """
    colors = np.reshape(picture.getpalette(), (-1, 3)).tolist()
    shown = {}  # by value: the class whose colour it has, None where no class has it
    for _, value in picture.getcolors():
        is_listed = value < len(colors)
        shown[value] = meaning.get(color_key(colors[value])) if is_listed else None
    # One colour alone may agree by chance, as black does with many palettes' 0.
    if len(shown) < 2 or None in shown.values():
        return
    for value, class_shown in shown.items():
        own = meaning.get(value)
        if class_shown != own and IGNORE not in (class_shown, own):
            raise InputError(
                f"{path} is a palette picture whose value {value} has the colour "
                f"{tuple(colors[value])}, which the class table gives to class {class_shown}; if "
                "its values are the ids, save it as a grey picture, if its colours are, as RGB"
            )


def read_mask(path: Path, meaning: dict[int, int] | None = None) -> np.ndarray:
    """A mask's pixels as they lie on disk, int32 (H, W): ids of grey and palette files, COLOR |
    rgb of coloured ones; with meaning, a palette that contradicts it is an error."""
    with opened(path) as picture:
        if picture.mode == "P" and meaning:
            check_palette(path, picture, meaning)
        if picture.mode in ("1", "L", "P", "I", "I;16"):  # a palette's colours only show its ids
            return np.array(picture).astype(np.int32)
        rgb = np.array(picture.convert("RGB")).astype(np.int32)
        return COLOR | rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]


def resize_mask(mask: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Ids can't be averaged: each pixel takes the nearest one, from pixel centres as
    resize_image."""
    if mask.shape == tuple(size):
        return mask
    return cv2.resize(mask, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)


def in_parts(*arrays: np.ndarray) -> Iterator[list[np.ndarray]]:
    """The same rows of each, some at a time: looking values up takes sixteen bytes a pixel."""
    for top in range(0, len(arrays[0]), ROWS):
        yield [array[top : top + ROWS] for array in arrays]


def check_sizes(pair: tuple, image: np.ndarray, mask: np.ndarray) -> None:
    """A mask has its image's size."""
    if image.shape[:2] != mask.shape:
        raise InputError(
            f"{pair[0]} is {image.shape[1]}×{image.shape[0]} (width×height) but {pair[1]} is "
            f"{mask.shape[1]}×{mask.shape[0]}; a mask has its image's size"
        )


def unknown_values(path: Path, values: Counter) -> InputError:
    """What to say of a mask with values that no class has."""
    is_smoothed = path.suffix.lower() in JPEG or len(values) > 16
    add = (
        "correct the mask, or add them to the classes.csv of a folder of your own (id 255 = ignore)"
    )
    cure = SMOOTHED if is_smoothed else add
    return InputError(f"{path} holds {describe_values(values)}, not in the class table; {cure}")


# ---- classes.csv ----


def read_color(row: dict) -> tuple[int, int, int]:
    color = int(row["red"]), int(row["green"]), int(row["blue"])
    if not all(0 <= number <= 255 for number in color):
        raise ValueError("a colour outside 0 to 255")
    return color


def read_class_table(path: Path) -> Table:
    """classes.csv with the columns id,name,red,green,blue; rows of id 255 name colours to
    ignore."""
    classes, ignored = {}, []
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            if int(row["id"]) == IGNORE:
                ignored.append(read_color(row))
            else:
                classes[int(row["id"])] = row["name"], read_color(row)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} can't be understood ({error}); expected UTF-8 text with the columns "
            "id,name,red,green,blue and whole numbers"
        ) from error
    is_whole = len(classes) + len(ignored) == len(rows)
    if sorted(classes) != list(range(len(classes))) or len(classes) < 2 or not is_whole:
        raise InputError(
            f"{path} has the ids {[row['id'] for row in rows]}; expected 0, 1, 2, … each once "
            "(and 255 for colours to ignore)"
        )
    names, colors = zip(*(classes[i] for i in range(len(classes))))
    meaning = {IGNORE: IGNORE, **{i: i for i in range(len(names))}}
    meaning |= {color_key(color): IGNORE for color in ignored}
    meaning |= {color_key(color): i for i, color in enumerate(colors)}
    return Table(list(names), list(colors), meaning)
