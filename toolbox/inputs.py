"""What inference.py is given: the pictures that it colours, and what it passes over, and why."""

import os
import stat
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolbox.errors import InputError, few
from toolbox.files import list_files
from toolbox.processes import is_first

from PIL import Image

# Pillow knows these too, but who has such a file beside pictures does not take it for one.
NO_PICTURES = {".pdf", ".mpg", ".mpeg", ".h5", ".hdf", ".grib", ".bufr"}
CAMERAS = {".heic", ".heif", ".hif", ".avif", ".jxl", ".raw", ".dng", ".cr2", ".cr3", ".nef"}
CAMERAS |= {".arw", ".orf", ".raf", ".rw2"}  # pictures, also where Pillow can't read them


def picture_endings() -> set[str]:
    """The endings of files that are meant to be pictures."""
    return {*Image.registered_extensions(), *CAMERAS} - NO_PICTURES


def why_unfit(path: Path) -> str:
    """Why a file must not be opened, or "": a pipe would be waited for without end."""
    try:
        kind = path.stat().st_mode
    except OSError as error:
        return f"{path} can't be read ({error.strerror}); put its file back, or take it out"
    if stat.S_ISREG(kind):
        return ""
    return f"{path} is no file but a pipe, a socket or a device; take it out"


@dataclass
class Inputs:
    """The files that may be pictures, and what is to be said of everything else."""

    given: list[str]  # by input_dir
    output_dir: str
    recursive: bool
    places: dict[Path, Path] = field(default_factory=dict)  # each file's own below output_dir
    named: set[Path] = field(default_factory=set)  # the user wrote their names
    unfit: list[str] = field(default_factory=list)  # why files can't be coloured
    folders: list[str] = field(default_factory=list)  # passed over, with all that is in them
    links: list[str] = field(default_factory=list)  # to folders, which could lead in a circle
    seen: set[str] = field(default_factory=set)

    # ---- finding ----

    def take(self, text: str) -> None:
        """A folder or a file that input_dir names."""
        path = Path(text)
        if path.is_dir():
            if self.is_output(path):
                raise InputError(
                    f"output_dir is {self.output_dir}, as input_dir is; name another, so that no "
                    "picture is written over"
                )
            self.take_folder(path)
        elif os.path.lexists(path):
            self.take_file(path, Path(path.name))
            self.named.add(path)
        else:
            raise InputError(f"input_dir {text} is not there; make it and put pictures into it")

    def take_file(self, path: Path, place: Path) -> None:
        """A file once, however often it is named."""
        whole = os.path.abspath(path)
        if whole in self.seen:
            return
        self.seen.add(whole)
        if problem := why_unfit(path):
            self.unfit.append(problem)
        else:
            self.places[path] = place

    def take_folder(self, root: Path) -> None:
        """A folder's files, and with recursive those of the folders in it."""
        waiting, found = [root], []
        while waiting:
            folder = waiting.pop()
            try:
                inside = list_files(folder)
            except InputError as problem:
                if folder == root:
                    raise
                self.unfit.append(str(problem))
                continue
            found += [path for path in inside if not path.is_dir()]
            waiting += [path for path in inside if path.is_dir() and self.is_walked(path)]
        for path in sorted(found):
            self.take_file(path, path.relative_to(root))

    def is_walked(self, folder: Path) -> bool:
        """Whether a folder inside another is gone into; one that is not is noted."""
        if self.is_output(folder):
            return False
        if not self.recursive:
            self.folders.append(folder.name)
        elif folder.is_symlink():
            self.links.append(folder.name)
            return False
        return self.recursive

    def is_output(self, folder: Path) -> bool:
        return os.path.realpath(folder) == os.path.realpath(self.output_dir)

    # ---- saying ----

    def labels(self) -> dict[Path, str]:
        """What the tables call each file: its place, or its path where two have one place."""
        counts = Counter(self.places.values())
        return {
            path: (place if counts[place] == 1 else path).as_posix()
            for path, place in self.places.items()
        }

    def is_beside(self, path: Path) -> bool:
        """Whether a file that can't be opened is no picture and was never meant to be one."""
        return bool(path.suffix) and path not in self.named

    def others(self, unopened: Sequence[Path]) -> list[Path]:
        """Of files that can't be opened, those that are no pictures but lie beside them."""
        endings = picture_endings()
        return [
            path for path in unopened if self.is_beside(path) and path.suffix.lower() not in endings
        ]

    def remarks(self, others: Sequence[Path]) -> list[str]:
        """A line on each kind of thing that is passed over."""
        lines = []
        if others:
            names = few([path.name for path in others])
            lines.append(f"passed over, being no pictures: {len(others)} file(s) ({names})")
        if self.folders:
            names = few(self.folders)
            lines.append(
                f"passed over: {len(self.folders)} folder(s) ({names}); recursive=true takes what "
                "is in them too"
            )
        if self.links:
            names = few(self.links)
            lines.append(f"passed over: {len(self.links)} link(s) to folders ({names})")
        return lines

    def say(self, others: Sequence[Path]) -> None:
        """What is passed over, and what can't be coloured; without any picture that is all."""
        lines = self.remarks(others)
        if not self.places and not self.unfit:
            given = ", ".join(self.given)
            raise InputError("\n".join([f"no pictures in {given}; put some there", *lines]))
        for line in lines:
            print(line)
        if is_first():
            for problem in self.unfit:
                print(problem, file=sys.stderr)


def find_inputs(input_dir: str | Sequence[str], output_dir: str, recursive: bool) -> Inputs:
    """All that input_dir, a path or several, stands for."""
    given = [input_dir] if isinstance(input_dir, str) else list(input_dir)
    found = Inputs(given, output_dir, recursive)
    for text in given:
        found.take(text)
    return found
