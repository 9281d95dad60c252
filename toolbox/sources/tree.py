"""What lies in a tool's export: its pictures and texts, in whatever folders the tool puts them."""

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePath, PureWindowsPath

from toolbox.errors import InputError
from toolbox.files import list_files
from toolbox.findings import Cause, FileInputError
from toolbox.inputs import picture_endings
from toolbox.names import same_accents
from toolbox.sources.layouts import role_of

LEVELS = 8  # of folders below the export's own
LOOKED_AT = 20  # files of an ending, to see whose they are
NO_JSON = Cause("files can't be read as JSON", "export them anew, or take them out")


def walk(folder: Path, levels: int = LEVELS) -> list[Path]:
    """The files of a folder, and of those in it."""
    found = []
    for path in list_files(folder):
        if not path.is_dir():
            found.append(path)
        elif levels:
            found += walk(path, levels - 1)
    return found


def split_of(names: Sequence[str]) -> str:
    """train, val or test, where one of some names says so: val2017 and valid_images do, trainval
    and test_site do not."""
    for name in names:
        split, kind = role_of(PurePath(re.sub(r"\d{4}$", "", name)))
        if split and kind != "other":
            return split
    return ""


def load_json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        sentence = f"{path} can't be read as JSON ({error}); export it anew, or take it out"
        raise FileInputError(sentence, NO_JSON, path) from error


def has_words(root: Path, words: Sequence[bytes], ending: str = ".json") -> bool:
    """Whether one of the first files of an ending holds all these words; torn ones may, too."""
    found = [path for path in walk(root) if path.suffix.lower() == ending]
    for path in found[:LOOKED_AT]:
        content = path.read_bytes() if path.is_file() else b""
        if all(word in content for word in words):
            return True
    return False


class Tree:
    """An export's files."""

    def __init__(self, root: Path):
        self.root = root
        self.files = walk(root)
        endings = picture_endings()
        self.pictures = [path for path in self.files if path.suffix.lower() in endings]
        self.stems = {path.with_suffix(""): path for path in self.pictures}
        self.named: dict[str, list[Path]] = {}  # pictures by their names, in small letters
        self.bare: dict[str, list[Path]] = {}  # and by those without ending
        self.inner: set[str] = set()  # the names of folders that hold any
        self.elsewhere: list[str] = []  # those found in another folder than was named
        for path in self.pictures:
            self.named.setdefault(same_accents(path.name).casefold(), []).append(path)
            self.bare.setdefault(same_accents(path.stem).casefold(), []).append(path)
            self.inner |= {*self.folders(path)}

    def with_ending(self, ending: str) -> list[Path]:
        return [path for path in self.files if path.suffix.lower() == ending]

    def folders(self, path: Path) -> tuple[str, ...]:
        """The names of the folders in which a file lies, from the export's own on."""
        within = path.relative_to(self.root) if path.is_relative_to(self.root) else path
        return within.parent.parts

    def find(self, name: str, text: Path) -> Path | None:
        """The picture of that name, which any system may have written, that a text file means."""
        wanted = PurePath(PureWindowsPath(name).as_posix())
        if os.path.isfile(text.parent / wanted):
            return text.parent / wanted
        names = self.named if wanted.suffix else self.bare  # CVAT's frames have no ending
        found = names.get(same_accents(wanted.name).casefold(), [])
        folder = wanted.parent.name
        if folder in self.inner:  # the one of another folder would be another picture
            found = [path for path in found if folder in self.folders(path)]
        if len(found) == 1:
            self.note_elsewhere(found[0], wanted)
        if len(found) < 2:
            return found[0] if found else None
        here = {*self.folders(text), *text.stem.split("_")}  # instances_val: those in val/
        ranked = sorted((self.likeness(path, wanted, here), path) for path in found)
        (second, other), (first, likest) = ranked[-2:]
        if first == second:
            raise InputError(
                f"{text} names {name}, which may be {other} or {likest}; lay them out as the tool "
                "has them, or take one out"
            )
        return likest

    def note_elsewhere(self, found: Path, wanted: PurePath) -> None:
        """A picture in a folder that says something, and not what was named, may be another one."""
        own, folder = found.parent, wanted.parent.name
        if folder not in ("", own.name) and own != self.root and role_of(own).kind == "other":
            self.elsewhere.append(f"{wanted} ({found.relative_to(self.root)})")

    def likeness(self, path: Path, wanted: PurePath, here: set[str]) -> tuple[int, int]:
        """How many of its last names are as wanted, and of its folders as those of the text."""
        count = 0
        for own, other in zip(reversed(path.parts), reversed(wanted.parts)):
            if own != other:
                break
            count += 1
        return count, len(here & {*self.folders(path)})
