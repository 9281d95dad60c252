"""Pictures as a page holds them: shrunk to what a screen shows, and inside it as data URIs."""

import base64
import io
from collections.abc import Sequence
from itertools import chain

from toolbox.masks import resize_image, resize_mask
from toolbox.pictures import Color
from toolbox.values import IGNORE

import numpy as np
from PIL import Image

PAGE = 9_500_000  # bytes of a page at most; a hundred pictures take a tenth to a half of it
QUALITY = 78  # of JPEGs: above, they grow fast and look the same at this size


def shrunk_size(shape: Sequence[int], side: int) -> tuple[int, int]:
    """The height and width at which the longer side has no more than so many pixels."""
    times = min(1, side / max(shape[:2]))
    return max(1, round(shape[0] * times)), max(1, round(shape[1] * times))


def shrunk(image: np.ndarray, side: int) -> np.ndarray:
    return resize_image(image, shrunk_size(image.shape, side))


def shrunk_mask(mask: np.ndarray, side: int) -> np.ndarray:
    return resize_mask(mask, shrunk_size(mask.shape, side))


def saved(picture: Image.Image, kind: str, **options) -> bytes:
    content = io.BytesIO()
    picture.save(content, kind, **options)
    return content.getvalue()


def data_uri(content: bytes) -> str:
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def picture_uri(image: np.ndarray) -> str:
    """uint8 (H, W, 3): as JPEG, or as PNG where that is smaller, as it may be for flat drawings."""
    picture = Image.fromarray(image)
    files = [saved(picture, "jpeg", quality=QUALITY)]
    if is_flat(image):
        files.append(saved(picture, "png"))
    return data_uri(min(files, key=len))


def is_flat(image: np.ndarray) -> bool:
    """Whether a picture has few colours, by some of its pixels; of photographs a PNG is never the
    smaller file, and takes several times as long as all else."""
    some = image[::7, ::7].astype(np.int32)
    colors = np.unique(some[..., 0] << 16 | some[..., 1] << 8 | some[..., 2])
    return len(colors) <= max(8, some[..., 0].size // 8)


def mask_uri(mask: np.ndarray, colors: Sequence[Color]) -> str:
    """Class ids (H, W) as a PNG of as few bits as the classes need; ignored pixels are white."""
    ids = mask.copy()
    ids[mask == IGNORE] = min(len(colors), IGNORE)
    picture = Image.fromarray(ids)
    palette = [*colors, (255, 255, 255)][:256]
    picture.putpalette(bytes(chain.from_iterable(palette)))
    return data_uri(saved(picture, "png", bits=bits_for(len(colors) + 1)))


def bits_for(count: int) -> int:
    """The bits of a pixel that PNG has for so many colours."""
    for bits in (1, 2, 4):
        if count <= 2**bits:
            return bits
    return 8
