"""Pictures of more than 8 bits: what range they use, and as 8 bits."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from toolbox.processes import all_cores

import cv2
import numpy as np
from PIL import Image

RANGES = (255, 1023, 4095, 65535)  # of 8, 10, 12 and 16 bits


def range_end(values: np.ndarray) -> int:
    """What is white in a file of 16 bits: the end of the range that holds its highest pixel."""
    return next(most for most in RANGES if values.max() <= most)


def top_of(picture: Image.Image, values: np.ndarray) -> float:
    if picture.mode.startswith("I;16"):
        return range_end(values)
    return max(values.max(), 1)


def to_8_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of more bits, by its range (cameras of 10 or 12 leave the highest of 16
    unused): clipped to 8, nearly all would turn white."""
    values = np.nan_to_num(np.asarray(picture, np.float32), posinf=0, neginf=0)
    scaled = values * (255 / top_of(picture, values)) + 0.5
    return Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))


def deep_colors(path: Path) -> np.ndarray | None:
    """A coloured picture of 16 bits as it lies on disk, (H, W, 3), with transparency (H, W, 4);
    None of others."""
    with suppress(Exception), Image.open(path) as picture:  # one that can't be read is named
        is_deep = any(";16" in str(tile[3]) for tile in picture.tile)
        if is_deep and not picture.mode.startswith("I;16"):
            values = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
            if values.dtype == np.uint16 and values.ndim == 3:
                order = [2, 1, 0, 3]  # OpenCV has blue first
                return values[..., order[: values.shape[2]]]
    return None


def brightened(path: Path) -> Image.Image | None:
    """A coloured picture of 16 bits that uses 8, 10 or 12 of them, by its range: Pillow takes each
    number's upper 8 bits, which are all but black then. None of others."""
    values = deep_colors(path)
    if values is None or range_end(values[..., :3]) == RANGES[-1]:
        return None
    scales = np.full(values.shape[2], 255 / RANGES[-1], np.float32)
    scales[:3] = 255 / range_end(values[..., :3])
    return Image.fromarray((values * scales + 0.5).astype(np.uint8))


def range_of(path: Path) -> int:
    """The range of a file of 16 bits; 0 for others."""
    with suppress(Exception), Image.open(path) as picture:  # one that can't be read is named
        if picture.mode.startswith("I;16"):
            return range_end(np.asarray(picture))
    values = deep_colors(path)
    return 0 if values is None else range_end(values[..., :3])


def ranges_of(images: Sequence[Path]) -> dict[str, int]:
    """How many of the files of 16 bits use each range."""
    with ThreadPoolExecutor(all_cores()) as threads:
        found = Counter(filter(None, threads.map(range_of, images)))
    return {str(most): found[most] for most in sorted(found)}
