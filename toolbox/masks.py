"""Reading pictures and masks: any file to RGB, a mask's pixels as they lie on disk, sizes."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from toolbox.depths import brightened, to_8_bits
from toolbox.errors import InputError
from toolbox.findings import Cause, FileInputError
from toolbox.smoothing import NEAR
from toolbox.values import COLOR, IGNORE, color_key, color_of, describe_values, in_words

import cv2
import numpy as np
from PIL import ExifTags, Image, ImageOps

JPEG = {".jpg", ".jpeg", ".jfif", ".jpe"}
APPLES = {".heic", ".heif", ".avif"}  # what phones save; Pillow reads some, on some machines
SMOOTHED = (
    "so many come from saving as JPEG or resizing with smoothing: save masks as PNG, resize them "
    "with nearest neighbour"
)
NOTES = {"exif", "Raw profile type exif", "XML:com.adobe.xmp"}  # of a PNG, where EXIF may stand
ADD = "correct the mask, or add them to the classes.csv of a folder of your own (id 255 = ignore)"
PIXEL_LIMIT = 500_000_000  # a small file may unpack to any size; this much takes 1.5 GB
ROWS = 1024  # worked on at once: whole, a big picture would lie in memory several times
UNREADABLE = Cause("files can't be read as pictures", "replace them or take them out")
SMOOTH = Cause("masks hold more values than the class table", SMOOTHED)
IS_JPEG = Cause("masks are JPEGs of classes too close for it", "save masks as PNG from the start")
UNKNOWN = Cause("masks hold values that are not in the class table", ADD)
NO_IDS = Cause("masks hold what are no whole numbers", "save masks as PNG with a number a class")
PALETTE = Cause(
    "palette masks have the colours of other classes than their values",
    "if the values are the ids, save them as grey pictures, if the colours are, as RGB",
)
SIZES = Cause(
    "masks have another size than their images",
    "a mask has its image's size: resize the masks with nearest neighbour, or find their images",
)
SIDEWAYS = Cause(
    "masks lie on their side: their width is their image's height",
    "turn the masks, or the images",
)
EXIF = Cause(
    "masks fit their pictures only as these lie on disk, before their EXIF note turns them",
    "turn the masks as viewers show the pictures, or take the EXIF notes out",
)
Image.MAX_IMAGE_PIXELS = None  # opened() sees to it, with one sentence for every kind of file
cv2.setNumThreads(0)  # pictures are worked on side by side already


# ---- pictures ----


@contextmanager
def opened(path: Path) -> Iterator[Image.Image]:
    """A picture turned as its EXIF says; one that can't be read is named."""
    try:
        if path.exists() and not path.is_file():
            raise ValueError("it is a folder, a pipe or a device")  # a pipe is read for ever
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
        cure = "replace it or take it out"
        if path.suffix.lower() in APPLES:
            cure = "save it as JPEG or PNG"
        reason = str(error).replace(f" {str(path)!r}", "") or type(error).__name__
        raise FileInputError(
            f"{path} can't be read as a picture ({reason}); {cure}", UNREADABLE, path
        ) from error


def read_image(path: Path) -> np.ndarray:
    """Any picture that Pillow knows, as uint8 (H, W, 3) RGB; transparency shows white."""
    with opened(path) as picture:
        if picture.mode[0] in "IF":
            picture = to_8_bits(picture)
        elif bright := brightened(path):
            bright.getexif()[ExifTags.Base.Orientation] = turned(path)
            picture = ImageOps.exif_transpose(bright)
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
            raise FileInputError(
                f"{path} is a palette picture whose value {value} has the colour "
                f"{tuple(colors[value])}, which the class table gives to class {class_shown}; if "
                "its values are the ids, save it as a grey picture, if its colours are, as RGB",
                PALETTE,
                f"{path} (value {value})",
            )


def check_jpeg(path: Path, mask: np.ndarray, meaning: dict[int, int]) -> None:
    """A JPEG's values are near what they were: not to be told apart where classes are as near."""
    values = np.unique(mask).tolist()
    are_sure = len(values) == 1 or {*values} <= {0, 255}  # these are as they were
    if are_sure or not {*values} <= meaning.keys():  # what no class has is said elsewhere
        return
    for value in values:
        for other, its_class in meaning.items():
            apart = np.abs(np.subtract(color_of(value), color_of(other))).max()
            is_like = (value >= COLOR) == (other >= COLOR)
            if is_like and apart <= NEAR and meaning.get(value, its_class) != its_class:
                raise FileInputError(
                    f"{path} is a JPEG, and {in_words(value)} in it may have been "
                    f"{in_words(other)}, which is another class; {IS_JPEG.cure}",
                    IS_JPEG,
                    path,
                )


def whole_numbers(path: Path, values: np.ndarray) -> np.ndarray:
    """A mask's numbers as int32; those that can be no ids are an error."""
    if values.dtype.itemsize < 4 and values.dtype.kind != "f":
        return values.astype(np.int32)
    values = values.astype(np.float32) if values.dtype == np.float16 else values  # COLOR is beyond
    with np.errstate(invalid="ignore"):  # a hole, which is no number
        is_id = (values % 1 == 0) & (values < COLOR) & (values > -COLOR)
    if not is_id.all():
        raise FileInputError(
            f"{path} holds {values[~is_id][0]}; expected whole numbers below {COLOR:,} in a mask",
            NO_IDS,
            path,
        )
    return values.astype(np.int32)


def read_mask(path: Path, meaning: dict[int, int] | None = None) -> np.ndarray:
    """A mask's pixels as they lie on disk, int32 (H, W): ids of grey and palette files, COLOR |
    rgb of coloured ones; with meaning, a palette that contradicts it is an error."""
    with opened(path) as picture:
        if picture.mode == "P" and meaning:
            check_palette(path, picture, meaning)
        if picture.mode in ("1", "L", "P") or picture.mode[0] in "IF":
            mask = whole_numbers(path, np.array(picture))  # a palette's colours only show its ids
        else:
            rgb = np.array(picture.convert("RGB")).astype(np.int32)
            mask = COLOR | rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
        if picture.format in ("JPEG", "MPO") and meaning:
            check_jpeg(path, mask, meaning)
        return mask


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


def turned(path: Path) -> int:
    """How a picture's EXIF note turns it: 1 not at all, 5 to 8 by a quarter."""
    with suppress(Exception), Image.open(path) as file:  # one that can't be read is named elsewhere
        # Of a PNG without a note Pillow would look through all pixels for one.
        if file.format != "PNG" or not NOTES.isdisjoint(file.info):
            return file.getexif().get(ExifTags.Base.Orientation, 1)
    return 1


def check_sizes(pair: tuple, image: np.ndarray, mask: np.ndarray) -> None:
    """A mask has its image's size."""
    height, width = image.shape[:2]
    if (height, width) == mask.shape:
        return
    found = (
        f"{pair[0]} is {width}×{height} (width×height) but {pair[1]} is "
        f"{mask.shape[1]}×{mask.shape[0]}"
    )
    times = mask.shape[0] / height
    about = f"{pair[1]} ({mask.shape[1]}×{mask.shape[0]} for {width}×{height})"
    if (width, height) == mask.shape:
        cause, alike, cure = SIDEWAYS, "", "a mask has its image's size: turn it, or the image"
        if turned(pair[0]) >= 5:
            cause = EXIF
            cure = (
                "the mask fits the picture as it lies on disk, before its EXIF note turns it: turn "
                "the mask as viewers show the picture, or take the EXIF note out"
            )
    else:
        cause, cure = SIZES, "a mask has its image's size"
        is_scaled = abs(times * width - mask.shape[1]) <= max(1, times)
        alike = f"{times:.3g} times as wide and high" if is_scaled else ""
    raise FileInputError(f"{found}; {cure}", cause, about, alike)


def unknown_values(path: Path, values: Counter) -> InputError:
    """What to say of a mask with values that no class has."""
    is_smoothed = path.suffix.lower() in JPEG or len(values) > 16
    cause, cure = (SMOOTH, SMOOTHED) if is_smoothed else (UNKNOWN, ADD)
    found = f"{path} holds {describe_values(values)}"
    about = path if is_smoothed else found
    alike = "" if is_smoothed else f"hold {', '.join(map(in_words, sorted(values)[:8]))}"
    return FileInputError(f"{found}, not in the class table; {cure}", cause, about, alike)
