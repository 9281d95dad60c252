"""Grey pictures of more than 8 bits: what range they use, and as 8 bits."""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from toolbox.processes import all_cores

import numpy as np
from PIL import Image

RANGES = (255, 1023, 4095, 65535)  # of 8, 10, 12 and 16 bits


def top_of(picture: Image.Image, values: np.ndarray) -> float:
    """What is white: in a file of 16 bits the end of the range that holds its highest pixel."""
    highest = max(values.max(), 1)
    if picture.mode.startswith("I;16"):
        return next(most for most in RANGES if highest <= most)
    return highest


def to_8_bits(picture: Image.Image) -> Image.Image:
    """A grey picture of more bits, by its range (cameras of 10 or 12 leave the highest of 16
    unused): clipped to 8, nearly all would turn white."""
    values = np.nan_to_num(np.asarray(picture, np.float32), posinf=0, neginf=0)
    scaled = values * (255 / top_of(picture, values)) + 0.5
    return Image.fromarray(np.clip(scaled, 0, 255).astype(np.uint8))


def range_of(path: Path) -> int:
    """The range of a file of 16 bits; 0 for others."""
    with suppress(Exception), Image.open(path) as picture:  # one that can't be read is named
        if picture.mode.startswith("I;16"):
            return top_of(picture, np.asarray(picture))
    return 0


def ranges_of(images: Sequence[Path]) -> dict[str, int]:
    """How many of the files of 16 bits use each range."""
    with ThreadPoolExecutor(all_cores()) as threads:
        found = Counter(filter(None, threads.map(range_of, images)))
    return {str(most): found[most] for most in sorted(found)}
