"""Files that hold many pictures, one after the other: TIFF stacks, moving GIFs."""

from contextlib import suppress
from pathlib import Path

from toolbox.findings import Cause, FileInputError

from PIL import Image

MOVING = {"GIF", "PNG", "WEBP", "TIFF", "AVIF"}  # not MPO: a JPEG with a preview behind the picture
STACK = Cause(
    "masks hold many pictures each, of which the first alone would be read",
    "save each of these as a file of its own, and those of its image, too",
)


def count_frames(path: Path) -> int:
    """How many pictures a file holds, where they follow one another."""
    with suppress(Exception), Image.open(path) as picture:  # the first could be read
        if picture.format in MOVING:
            return getattr(picture, "n_frames", 1)
    return 1


def check_single(mask: Path) -> None:
    """A mask holds one picture: of more all but the first would be lost."""
    count = count_frames(mask)
    if count > 1:
        sentence = (
            f"{mask} holds {count} pictures, of which the first alone would be read; {STACK.cure}"
        )
        raise FileInputError(sentence, STACK, mask)
