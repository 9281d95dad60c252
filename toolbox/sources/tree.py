"""What lies in a tool's export: its pictures and texts, in whatever folders the tool puts them."""

import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePath, PureWindowsPath

from toolbox.errors import InputError
from toolbox.files import list_files
from toolbox.findings import Cause, FileInputError
from toolbox.inputs import picture_endings
from toolbox.names import same_accents

LEVELS = 3  # of folders below the export's own
LOOKED_AT = 5  # files of an ending, to see whose they are
SPLIT_NAMES = {"train": "train", "training": "train", "val": "val", "valid": "val"}
SPLIT_NAMES |= {"validation": "val", "test": "test", "testing": "test"}
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
    """train, val or test, where one of some names says so."""
    for name in names:
        if name.lower() in SPLIT_NAMES:
            return SPLIT_NAMES[name.lower()]
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
        self.named: dict[str, list[Path]] = {}  # pictures by their names
        self.bare: dict[str, list[Path]] = {}  # and by those without ending
        for path in self.pictures:
            self.named.setdefault(same_accents(path.name), []).append(path)
            self.bare.setdefault(same_accents(path.stem), []).append(path)

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
        found = names.get(same_accents(wanted.name), [])
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

    def likeness(self, path: Path, wanted: PurePath, here: set[str]) -> tuple[int, int]:
        """How many of its last names are as wanted, and of its folders as those of the text."""
        count = 0
        for own, other in zip(reversed(path.parts), reversed(wanted.parts)):
            if own != other:
                break
            count += 1
        return count, len(here & {*self.folders(path)})
