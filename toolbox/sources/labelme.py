"""labelme: a JSON beside each picture, as AnyLabeling, X-AnyLabeling and ISAT write it too."""

from pathlib import Path

from toolbox.errors import few
from toolbox.findings import Cause, FileInputError, noted
from toolbox.sources.drawn import IGNORED, NO_PICTURE, Drawn
from toolbox.sources.sketches import Shape, Sketch
from toolbox.sources.tree import Tree, has_words, load_json, split_of
from toolbox.tables import read_text

BROKEN = Cause("JSON files can't be understood as labelme's", "save them anew, or take them out")
UNKNOWN = Cause("labels are not in labels.txt", "add them there, or mend them in labelme")


class Labelme(Drawn):
    """photo.jpg and photo.json, in one folder or in train, val and test; labels.txt beside them
    may list the classes in their order."""

    tool = "labelme's JSON files"

    @classmethod
    def fits(cls, root: Path) -> bool:
        return has_words(root, (b'"shapes"', b'"imagePath"'))

    def sketches(self, tree: Tree) -> list[Sketch]:
        labels = self.root / "labels.txt"
        if labels.exists():
            lines = [line.strip() for line in read_text(labels).splitlines()]
            self.listed = [line for line in lines if line]
        found, others = [], []
        for path in tree.with_ending(".json"):
            with noted(self.problems):
                content = load_json(path)
                if isinstance(content, dict) and "shapes" in content:
                    found.append(self.sketch_of(path, content, tree))
                else:
                    others.append(path.name)
        if others:
            self.notes.append(f"{len(others)} JSON file(s) not labelme's left out: {few(others)}")
        self.note_empty(found)
        return found

    def sketch_of(self, path: Path, content: dict, tree: Tree) -> Sketch:
        try:
            image = self.picture_of(path, str(content.get("imagePath") or ""), tree)
            shapes = [self.shape_of(shape) for shape in content["shapes"]]
        except (KeyError, TypeError, AttributeError) as error:
            sentence = (
                f"{path} can't be understood as labelme's ({type(error).__name__}: {error}); save "
                "it anew in labelme, or take it out"
            )
            raise FileInputError(sentence, BROKEN, path) from error
        self.check_labels(path, shapes)
        size = content.get("imageWidth"), content.get("imageHeight")
        return Sketch(path, image, split_of(tree.folders(path)), shapes, size)

    def picture_of(self, path: Path, name: str, tree: Tree) -> Path:
        """The picture that a JSON names; the one of its own name beside it, if that was renamed."""
        beside = tree.stems.get(path.with_suffix(""))
        named = tree.find(name, path) if name else None
        if named and (named.parent == path.parent or not beside):
            return named
        if beside:
            return beside
        sentence = f"{path} is of the picture {name!r}, which is not there; put it beside it"
        raise FileInputError(sentence, NO_PICTURE, f"{name} of {path}")

    def shape_of(self, shape: dict) -> Shape:
        if shape["label"] is None:
            raise TypeError("a shape has no label")
        points = () if shape.get("shape_type") == "circle" else shape["points"]
        return Shape(str(shape["label"]), "labelme", shape, points)

    def check_labels(self, path: Path, shapes: list[Shape]) -> None:
        """Where labels.txt lists the classes, it lists them all."""
        if not self.listed:
            return
        for label in dict.fromkeys(shape.label for shape in shapes):
            if label in (*self.listed, IGNORED, "_background_"):
                continue
            likely = [
                other for other in self.listed if other.casefold() == label.strip().casefold()
            ]
            cure = f"it is probably {likely[0]!r}" if likely else UNKNOWN.cure
            sentence = f"{path} has the label {label!r}, which is not in labels.txt; {cure}"
            self.problems.append(FileInputError(sentence, UNKNOWN, f"{label!r} in {path}"))
