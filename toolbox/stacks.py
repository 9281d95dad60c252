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
CHANNELS = Cause(
    "pictures hold many each, of which the first alone would be read",
    "if these are its channels, save it as one RGB picture; else each as a file of its own",
)


def count_frames(path: Path) -> int:
    """How many pictures a file holds, where they follow one another; a smaller copy of the first
    is none."""
    with suppress(Exception), Image.open(path) as picture:  # the first could be read
        if picture.format in MOVING:
            width, height = picture.size
            count = 1
            for i in range(1, getattr(picture, "n_frames", 1)):
                picture.seek(i)
                share = picture.width / width
                is_copy = share < 1 and abs(share * height - picture.height) <= 1
                count += not is_copy
            return count
    return 1


def check_single(path: Path, cause: Cause) -> None:
    """A file holds one picture, or mask: of more all but the first would be lost."""
    count = count_frames(path)
    if count > 1:
        sentence = (
            f"{path} holds {count} pictures, of which the first alone would be read; {cause.cure}"
        )
        raise FileInputError(sentence, cause, path)
