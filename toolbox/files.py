"""Files that are never torn: written aside, flushed, renamed; a folder's lock; what tells
whether files changed."""

import csv
import difflib
import errno
import hashlib
import io
import itertools
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from toolbox.errors import InputError
from toolbox.processes import is_first

from filelock import FileLock, SoftFileLock, Timeout

PATIENCE = 8  # seconds that a lock is waited for: a killed run's workers may hold it for some
# What file managers and archives leave, beside names that start with a dot.
JUNK = {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}
LOCK = ".unet-run.lock"  # nobody else's name: locking empties the file, and a run takes it away


# ---- writing ----


@contextmanager
def writing(where: Path) -> Iterator[None]:
    """A full or read-only disk ends in a sentence."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{where} can't be written ({error.strerror or error}); what was there before is as it "
            "was. Make room, or give leave to write, and start again; training that had begun goes "
            "on with resume=true"
        ) from error


def replace(aside: Path, path: Path) -> None:
    """Put aside in path's place; Windows refuses that while another program has path open."""
    for wait in (0.1, 0.5, 2):
        with suppress(PermissionError):
            return os.replace(aside, path)
        time.sleep(wait)
    os.replace(aside, path)


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let write fill a file beside path, then put it in path's place."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(aside, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            replace(aside, path)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """A file's name may hold bytes that are no text: they are written as \\udcff and the like."""
    write_atomic(path, lambda file: file.write(text.encode(errors="backslashreplace")))


def write_table(path: Path, rows: Sequence[Sequence]) -> None:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    write_text(path, text.getvalue())


def check_writable(folder: Path) -> None:
    """Make a folder, and see that files can be written there, before hours of work are for it."""
    if os.path.lexists(folder) and not os.path.isdir(folder):
        raise InputError(f"{folder} is no folder; move it away, or name another")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


def own_path(path: Path, is_ours: Callable[[Path], bool]) -> Path:
    """Where a file may be written that others may have the name of: path, or path-2 and so on where
    somebody else's lies."""
    for number in itertools.count(1):
        free = path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")
        if not os.path.lexists(free) or is_ours(free):
            return free


# ---- knowing ----


def list_files(folder: Path) -> list[Path]:
    """What lies in a folder, without what file managers leave there."""
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(
            f"{folder} can't be read ({error.strerror}); give leave to read it"
        ) from error
    return [path for path in found if path.name[0] != "." and path.name.lower() not in JUNK]


def fingerprint(*parts) -> str:
    """Twelve letters that are others as soon as any part is another."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def file_facts(paths: Sequence[Path]) -> list[tuple[str, int, int]]:
    """What changes when a file does."""
    facts = [path.stat() for path in paths]
    return [
        (str(path.resolve()), fact.st_size, fact.st_mtime_ns) for path, fact in zip(paths, facts)
    ]


# ---- one at a time ----


def lock_of(path: Path) -> FileLock:
    """A lock that goes with its process. A soft one, a mere file, would outlive a kill: versions of
    filelock that fall back to it have to be told not to."""
    try:
        return FileLock(path, fallback_to_soft=False)
    except TypeError:  # a version without that option
        return FileLock(path)


def take_lock(lock: FileLock, folder: Path) -> None:
    """Hold the lock; where the disk knows none, say so and go on without."""
    reason = ""
    try:
        with warnings.catch_warnings(action="ignore"):
            lock.acquire(timeout=PATIENCE)
    except Timeout as error:
        if not isinstance(lock, SoftFileLock):  # for that one our own file looks like another run
            raise InputError(
                f"{folder} is being written by another run; wait for its end, or name another "
                "run_dir"
            ) from error
    except (OSError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        if getattr(error, "errno", 0) == errno.ENOSYS:
            reason = "this disk knows no locks"
    if isinstance(lock, SoftFileLock):
        lock.release()
        reason = "this disk knows no locks"
    if reason:
        print(f"{folder} can't be locked ({reason}): see to it that no other run writes there")


def in_run(run: Path, name: str) -> list[Path]:
    """Where a run's folder has a file of that name: in itself, or in the folders of its folds."""
    if not os.path.isdir(run):  # False where a name is too long
        return []
    found = [run / name, *sorted(run.glob(f"fold-[0-9]*/{name}"))]
    return [path for path in found if os.path.exists(path)]


def last_files(run: Path) -> list[Path]:
    return in_run(run, "last.pth")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Two runs in one folder would write over each other; the first process holds the lock for all.

    It goes with the process, however that ends. Its file stays until there is a last.pth: it says
    that the folder is a run's.
    """
    if not is_first():
        yield
        return
    path = folder / LOCK
    with writing(folder):
        path.touch()
    lock = lock_of(path)
    take_lock(lock, folder)
    try:
        yield
    finally:
        has_begun = bool(last_files(folder))
        if has_begun:
            with suppress(OSError):  # Windows takes it away itself
                path.unlink(missing_ok=True)
        lock.release()
        if not has_begun:
            with suppress(OSError):  # the folder may be gone
                path.touch()


def nearby_hint(path: str) -> str:
    """A hint at what lies where a path leads and is called nearly so."""
    folder = Path(path).parent
    with suppress(OSError, ValueError):
        names = [one.name for one in folder.iterdir()]
        likely = difflib.get_close_matches(Path(path).name, names, n=1, cutoff=0.8)
        return f"; did you mean {(folder / likely[0]).as_posix()}?" if likely else ""
    return ""
