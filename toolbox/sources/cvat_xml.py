"""CVAT's own XML, "CVAT for images 1.1": the shapes of all pictures in one file."""

from collections.abc import Callable
from pathlib import Path, PurePath
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from toolbox.findings import Cause, FileInputError, noted
from toolbox.sources.drawn import Drawn
from toolbox.sources.sketches import Shape, Sketch
from toolbox.sources.tree import Tree, has_words, split_of

import numpy as np

BROKEN = Cause("things can't be understood as CVAT's XML", "export them anew")
VIDEO = Cause("files are CVAT's XML of a video", "export 'Segmentation mask 1.1' with its pictures")


# ---- each kind of shape: what is drawn of it ----


def numbers_of(element: Element, names: str) -> list[float]:
    return [float(element.attrib[name]) for name in names.split()]


def polygon(element: Element) -> list[float]:
    return [float(word) for word in element.attrib["points"].replace(";", ",").split(",")]


def box(element: Element) -> list[float]:
    """Its corners, turned clockwise about the middle by so many degrees."""
    left, top, right, bottom = numbers_of(element, "xtl ytl xbr ybr")
    corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]])
    angle = np.radians(float(element.get("rotation", 0)))
    if angle:
        middle = corners.mean(axis=0)
        turn = [[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]
        corners = middle + (corners - middle) @ turn
    return corners.ravel().tolist()


def ellipse(element: Element) -> list[float]:
    """Its middle, its half axes, and how many degrees it is turned."""
    return [*numbers_of(element, "cx cy rx ry"), float(element.get("rotation", 0))]


def painted(element: Element) -> dict:
    """Run lengths along the rows of a box, and where that lies."""
    left, top, width, height = map(int, numbers_of(element, "left top width height"))
    counts = [int(word) for word in element.attrib["rle"].split(",")]
    return {"counts": counts, "corner": (left, top), "size": (height, width)}


READ: dict[str, tuple[str, Callable]] = {  # by its tag: how it is drawn, and how it is read
    "polygon": ("polygon", polygon),
    "box": ("polygon", box),
    "ellipse": ("ellipse", ellipse),
    "mask": ("rows", painted),
}
OPEN = {"polyline", "points", "cuboid", "skeleton"}  # of which CVAT makes no masks either


class CvatXml(Drawn):
    """annotations.xml, or one of any name, and images/."""

    tool = "CVAT's XML"

    @classmethod
    def fits(cls, root: Path) -> bool:
        return has_words(root, (b"<annotations>", b"<meta>", b"<label>"), ".xml")

    def sketches(self, tree: Tree) -> list[Sketch]:
        self.open = 0
        found = []
        for path in tree.with_ending(".xml"):
            with noted(self.problems):
                found += self.of_file(path, tree)
        self.note_empty(found)
        if self.open:
            self.notes.append(
                f"{self.open} line(s), point(s) or the like left out: they enclose nothing"
            )
        return found

    def of_file(self, path: Path, tree: Tree) -> list[Sketch]:
        """The pictures of one XML, each with its shapes, the topmost last."""
        try:
            root = ElementTree.parse(path).getroot()
            meta = root.find("meta")
            if meta is None:
                return []
            if root.find("track") is not None:
                raise FileInputError(f"{path} is CVAT's XML of a video; {VIDEO.cure}", VIDEO, path)
            self.listed += [str(label.findtext("name")) for label in meta.iter("label")]
            sketches = []
            for one in root.iter("image"):
                subset = one.get("subset", "")
                name = str(PurePath(subset, one.attrib["name"]))
                image = self.picture_named(path, name, tree)
                if image:
                    size = int(one.attrib["width"]), int(one.attrib["height"])
                    split = split_of([subset, *tree.folders(image), path.stem])
                    sketches.append(Sketch(path, image, split, self.shapes_of(one), size))
            return sketches
        except (ElementTree.ParseError, KeyError, ValueError) as error:
            sentence = (
                f"{path} can't be understood as CVAT's XML ({type(error).__name__}: {error}); "
                "export it anew"
            )
            raise FileInputError(sentence, BROKEN, path) from error

    def shapes_of(self, image: Element) -> list[Shape]:
        ordered = sorted(image, key=lambda element: int(element.get("z_order", 0)))
        shapes = []
        for element in ordered:
            if element.tag in READ:
                kind, read = READ[element.tag]
                try:
                    what = read(element)
                except (KeyError, ValueError, OverflowError) as error:
                    about = f"a {element.tag} of {image.get('name')}, {element.get('label')}"
                    raise ValueError(f"{about}: {error}") from error
                points = what if kind == "polygon" else ()
                shapes.append(Shape(element.attrib["label"], kind, what, points))
            elif element.tag in OPEN:
                self.open += 1
        return shapes
