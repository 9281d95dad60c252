"""What a kill left half done, told by its name from what is anybody else's, and taken away."""

import re
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

DAY = 86400  # seconds after which nobody is at something half done any more


def written_aside(path: Path) -> str:
    """The name of the file that write_atomic was filling here, or ""."""
    found = re.fullmatch(r"\.(.+)\.[0-9]+\.tmp", path.name)
    return found[1] if found else ""


def is_old(path: Path) -> bool:
    with suppress(OSError):
        return time.time() - path.lstat().st_mtime > DAY
    return False


def sweep_torn(paths: Iterable[Path]) -> None:
    """Take away files that a killed process was filling."""
    for path in paths:
        if path.is_file() and not path.is_symlink():
            with suppress(OSError):
                path.unlink()


def make_aside(folder: Path, work: str) -> Path:
    """A folder for what must appear whole or not at all; its name says what it is for."""
    return Path(tempfile.mkdtemp(dir=folder, prefix=f".unfinished-{work}-"))


def sweep_unfinished(folder: Path, work: str) -> None:
    """Take away what a killed process left in make_aside's folders, a day later."""
    for path in folder.glob(f".unfinished-{work}-*"):
        own = re.fullmatch(rf"\.unfinished-{work}-[a-z0-9_]{{8}}", path.name)
        if own and path.is_dir() and is_old(path):
            shutil.rmtree(path, ignore_errors=True)
