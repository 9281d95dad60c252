"""YOLO's segmentation labels, as Ultralytics, Roboflow, CVAT and Label Studio lay them out."""

from contextlib import suppress
from itertools import chain
from pathlib import Path, PurePath, PureWindowsPath

from toolbox.errors import InputError
from toolbox.files import list_files
from toolbox.findings import Cause, FileInputError, noted
from toolbox.sources.base import SPLITS
from toolbox.sources.drawn import NO_PICTURE, Drawn
from toolbox.sources.sketches import Shape, Sketch
from toolbox.sources.tree import LOOKED_AT, Tree, split_of, walk
from toolbox.tables import read_text

import yaml  # which albumentations needs

LABELS = {"images": "labels", "Images": "Labels", "IMAGES": "LABELS"}  # the one beside the other
LISTS = {"classes.txt", "obj.names"}
BROKEN = Cause("lines can't be understood as YOLO's", "export them anew, or take them out")


def text_of(image: Path, root: Path) -> Path:
    """Where a picture's labels lie: labels/ takes the place of the last images/ on its way."""
    parts = list(image.relative_to(root).with_suffix(".txt").parts)
    for i in reversed(range(len(parts) - 1)):
        if parts[i] in LABELS:
            parts[i] = LABELS[parts[i]]
            break
    return root.joinpath(*parts)


def tables_in(root: Path) -> list[Path]:
    """The file that may name the classes: data.yaml, Label Studio's classes.txt, Darknet's
    obj.names."""
    files = [path for path in list_files(root) if path.suffix.lower() in (".yaml", ".yml")]
    files.sort(key=lambda path: path.stem.lower() != "data")
    lists = [root / "classes.txt", root / "labels" / "classes.txt", root / "obj.names"]
    return [*files, *(path for path in lists if path.is_file())]


def is_outline(text: Path) -> bool:
    """Whether a text's first line is a class's number and points."""
    words = text.read_bytes().partition(b"\n")[0].split()
    with suppress(ValueError):
        return len([*map(float, words)]) > 6 and words[0].isdigit()
    return False


class Yolo(Drawn):
    """data.yaml with names; images/ and labels/ in train, valid and test, or these in those."""

    tool = "YOLO's segmentation labels"

    @classmethod
    def fits(cls, root: Path) -> bool:
        texts = [path for path in walk(root) if path.suffix.lower() == ".txt"]
        if not texts or not tables_in(root):
            return False
        if any({*path.relative_to(root).parent.parts} & {*LABELS.values()} for path in texts):
            return True
        beside = [path for path in texts if path.name not in LISTS]
        return any(map(is_outline, beside[:LOOKED_AT]))

    def sketches(self, tree: Tree) -> list[Sketch]:
        path = tables_in(self.root)[0]
        splits: dict[str, str] = {}
        if path.name in LISTS:
            lines = read_text(path).splitlines()
            names = {i: line.strip() for i, line in enumerate(lines) if line.strip()}
        else:
            content = self.load_yaml(path)
            names = self.names_in(path, content)
            splits = self.splits_in(path, content)
        self.listed = [names[i] for i in sorted(names)]
        texts = {text_of(image, self.root): image for image in tree.pictures}
        sketches = []
        for text in tree.with_ending(".txt"):
            if text in texts:
                image = texts[text]
                split = self.split_of_picture(image, splits)
                with noted(self.problems):
                    sketches.append(self.sketch_of(text, image, names, split))
            elif text.name not in LISTS and {*tree.folders(text)} & {*LABELS.values()}:
                sentence = f"{text} has no picture; put it back, or take this out"
                self.problems.append(FileInputError(sentence, NO_PICTURE, text))
        return sketches

    def load_yaml(self, path: Path) -> dict:
        try:
            content = yaml.load(read_text(path), yaml.BaseLoader)  # all of it stays text
        except yaml.YAMLError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{path} can't be understood ({reason}); export it anew") from error
        if not isinstance(content, dict) or not isinstance(content.get("names"), (list, dict)):
            raise InputError(f"{path} has no names:, the list of classes; add it")
        if "kpt_shape" in content:
            raise InputError(
                f"{path} has kpt_shape: the labels are key points, not outlines; export "
                "segmentation"
            )
        return content

    def names_in(self, path: Path, content: dict) -> dict[int, str]:
        """The classes by their numbers, which may have gaps."""
        names = content["names"]
        try:
            if isinstance(names, list) and all(isinstance(one, dict) for one in names):
                names = dict(chain.from_iterable(one.items() for one in names))  # "- 0: cat"
            numbered = names.items() if isinstance(names, dict) else enumerate(names)
            return {int(i): str(name).strip() for i, name in numbered}
        except ValueError as error:
            raise InputError(f"{path} has names without a number ({error}); mend it") from error

    def splits_in(self, path: Path, content: dict) -> dict[str, str]:
        """The split of each folder that data.yaml names, or of each picture in its lists."""
        found: dict[str, str] = {}
        for split in SPLITS:
            entries = content.get(split) or []
            for entry in [entries] if isinstance(entries, str) else entries:
                place = self.place_of(entry)
                if place is None:
                    self.notes.append(f"{path.name} names {entry} for {split}, which is not here")
                    continue
                listed = [place]
                if place.is_file():
                    lines = map(str.strip, read_text(place).splitlines())
                    listed = [self.place_of(line) for line in lines if line]
                for one in filter(None, listed):
                    found.setdefault(one.relative_to(self.root).as_posix(), split)
        return found

    def place_of(self, entry: str) -> Path | None:
        """What an entry means here, wherever it was written: the longest end of it that is."""
        parts = PurePath(PureWindowsPath(entry).as_posix()).parts
        parts = [part for part in parts if part not in ("..", "/")]
        places = [self.root.joinpath(*parts[i:]) for i in range(len(parts))]
        return next((place for place in places if place.exists()), None)

    def split_of_picture(self, image: Path, splits: dict[str, str]) -> str:
        place = image.relative_to(self.root)
        for known in (place, *place.parents):
            if known.as_posix() in splits:
                return splits[known.as_posix()]
        return split_of(place.parent.parts)

    def sketch_of(self, text: Path, image: Path, names: dict[int, str], split: str) -> Sketch:
        shapes = []
        for number, line in enumerate(read_text(text).splitlines(), 1):
            words = line.split()
            if len(words) == 5:
                self.boxes += 1
            elif words:
                with noted(self.problems):
                    shapes.append(self.shape_of(words, names, f"line {number} of {text}"))
        return Sketch(text, image, split, shapes)

    def shape_of(self, words: list[str], names: dict[int, str], where: str) -> Shape:
        try:
            label, shares = names[int(words[0])], [float(word) for word in words[1:]]
        except (ValueError, KeyError) as error:
            sentence = (
                f"{where} can't be understood: {error}; expected a class of {sorted(names)} and "
                "x1 y1 x2 y2 … in shares of width and height"
            )
            raise FileInputError(sentence, BROKEN, where) from error
        return Shape(label, "shares", shares, shares)
