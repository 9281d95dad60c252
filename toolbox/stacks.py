"""Files that hold many pictures, one after the other: TIFF stacks, moving GIFs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from toolbox.cache import remembered
from toolbox.files import file_facts, fingerprint
from toolbox.findings import Cause, FileInputError
from toolbox.processes import all_cores

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


def stacked(masks: Sequence[Path]) -> list[FileInputError]:
    """Masks of which all but the first would be lost; remembered for unchanged files."""

    def look() -> dict[str, int]:
        with ThreadPoolExecutor(all_cores()) as threads:
            counts = zip(masks, threads.map(count_frames, masks))
            return {str(path): count for path, count in counts if count > 1}

    found = []
    for path, count in remembered(f"stacks-{fingerprint(file_facts(masks))}", look).items():
        sentence = (
            f"{path} holds {count} pictures, of which the first alone would be read; {STACK.cure}"
        )
        found.append(FileInputError(sentence, STACK, path))
    return found
