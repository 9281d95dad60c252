"""A picture and the shapes that a labelling tool has for it, and the mask that is drawn of them."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from toolbox.findings import Cause, FileInputError
from toolbox.masks import opened, turned
from toolbox.shapes import DRAW, FewPoints

import numpy as np
from PIL import Image

EDGE = 1  # pixel, or hundredth of a side, that tools let a point stand outside
FEW_POINTS = Cause("shapes have too few points to enclose anything", "take them out in the tool")
NOT_DRAWN = Cause("shapes can't be drawn", "mend them in the tool that made them")
OTHER_SIZE = Cause("pictures have another size than their labels", "put back what was labelled")
TURNED = Cause(
    "pictures were labelled as they lie on disk, before their EXIF note turns them",
    "take the EXIF notes out",
)


class Shape(NamedTuple):
    """A shape: its class, and what is drawn in which way."""

    label: str
    kind: str  # a name in DRAW
    what: object
    points: Sequence = ()  # those that must lie in the picture


class Sketch(NamedTuple):
    """A picture and the shapes on it, later ones on top."""

    about: Path  # the file that holds them
    image: Path
    split: str  # train, val, test, or ""
    shapes: list[Shape]
    size: tuple[int | None, int | None] = (None, None)  # width and height, where the tool says so


def check_size(sketch: Sketch, found: tuple[int, int]) -> None:
    """The tool has seen the picture as it is read here; sizes are (width, height)."""
    width, height = sketch.size
    if not width or not height or (width, height) == found:
        return
    image, cause, cure = sketch.image, OTHER_SIZE, OTHER_SIZE.cure
    if (height, width) == found:
        cure = "it was turned after it was labelled: put back what was labelled"
        if turned(image) >= 5:
            cause = TURNED
            cure = (
                "it was labelled as it lies on disk, before its EXIF note turns it: take that out"
            )
    sentence = (
        f"{image} is {found[0]}×{found[1]} (width×height) but its labels in {sketch.about} are "
        f"for {width}×{height}; {cure}"
    )
    raise FileInputError(sentence, cause, image)


def draw_mask(sketch: Sketch, ids: dict[str, int]) -> tuple[Image.Image, list[FileInputError]]:
    """All shapes on a picture, as class ids, and what is wrong with any of them."""
    with opened(sketch.image) as picture:
        size = picture.size
    check_size(sketch, size)
    mask, problems = Image.new("L", size), []
    for number, shape in enumerate(sketch.shapes, 1):
        try:
            DRAW[shape.kind](mask, ids[shape.label], shape.what)
        except MemoryError:
            raise
        except Exception as error:  # a file from anywhere may hold anything
            about = f"shape {number} ({shape.label}) on {sketch.image}"
            reason = str(error) or type(error).__name__
            sentence = (
                f"{about} can't be drawn: {reason}; mend it in the tool that made "
                f"{sketch.about.name}, or take it out"
            )
            cause = FEW_POINTS if isinstance(error, FewPoints) else NOT_DRAWN
            problems.append(FileInputError(sentence, cause, about))
    return mask, problems


def reaches_out(shape: Shape, size: tuple[int | None, int | None]) -> bool:
    """Whether a shape has points outside its picture; broken ones are named elsewhere."""
    edge = EDGE
    if shape.kind == "shares":
        size, edge = (1, 1), EDGE / 100
    if not shape.points or not all(size):
        return False
    with suppress(ValueError, TypeError):
        points = np.asarray(shape.points, np.float64).reshape(-1, 2)
        return bool(((points < -edge) | (points > np.add(size, edge))).any())
    return False
