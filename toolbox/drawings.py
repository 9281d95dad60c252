"""What is drawn beside the work: no drawing ends it, and names are drawn as they are."""

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolbox.errors import InputError

from tqdm import tqdm

LONGEST = 40  # letters of a name in a drawing or a table
BREAKS = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's kinds of what would end a line or command a terminal


def shown(name: str, longest: int = LONGEST) -> str:
    """A name as one line shows it; one of a thousand letters is cut."""
    line = "".join(" " if unicodedata.category(letter) in BREAKS else letter for letter in name)
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def reason(error: Exception) -> str:
    """Why it failed, in a line."""
    cause = error.__cause__ if isinstance(error, InputError) and error.__cause__ else error
    words = str(getattr(cause, "strerror", None) or cause).strip() or type(cause).__name__
    return words.splitlines()[0][:200]


@contextmanager
def drawing(path: Path, instead: str = "the run goes on without it") -> Iterator[Path]:
    """What can't be drawn is said in a line."""
    try:
        yield path
    except Exception as error:  # matplotlib, Pillow and OpenCV raise dozens of kinds
        tqdm.write(f"{path} could not be drawn ({reason(error)}); {instead}")
