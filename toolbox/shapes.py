"""Shapes that labelling tools write, drawn onto masks just as the tools' own converters do it."""

import base64
import io
import math
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw

LINE = 10  # pixels that labelme makes a line wide
POINT = 5  # radius of its points
LEAST = {"polygon": 3, "oriented_rectangle": 3, "rotation": 3, "point": 1}  # points; of others 2
FINE = 5  # COCO's polygons are drawn on a grid as much finer
FAR = 100_000  # pixels; no picture is so large, and a line there would fill the memory


class FewPoints(ValueError):
    """A shape that encloses nothing."""


def as_points(flat: Sequence[float], least: int, kind: str) -> np.ndarray:
    """x and y of each point, (N, 2), in pixels."""
    numbers = np.asarray(flat, np.float64).ravel()
    if len(numbers) % 2:
        raise ValueError(f"{len(numbers)} numbers, of which one has no other to make a point")
    if len(numbers) < 2 * least:
        raise FewPoints(f"a {kind} of {len(numbers) // 2} point(s), expected {least} or more")
    if not (np.abs(numbers) < FAR).all():
        raise ValueError("a point that is no number, or out of all bounds")
    return numbers.reshape(-1, 2)


def paste(mask: Image.Image, value: int, left: int, top: int, inside: np.ndarray) -> None:
    """Give a value to where inside, bool (H, W), is true; what lies outside the mask is cut off."""
    mask.paste(value, (left, top), Image.fromarray(inside.astype(np.uint8) * 255))


# ---- labelme ----


def draw_labelme(mask: Image.Image, value: int, shape: dict) -> None:
    """A shape of labelme's onto a mask of ids, as Pillow draws it."""
    kind = shape.get("shape_type") or "polygon"
    points = as_points(shape["points"], LEAST.get(kind, 2), kind)
    places = [tuple(point) for point in points.tolist()]
    draw = ImageDraw.Draw(mask)
    if kind in ("polygon", "oriented_rectangle", "rotation"):
        draw.polygon(places, outline=value, fill=value)
    elif kind == "rectangle":  # two corners, or all four
        corners = [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]
        draw.rectangle(corners, outline=value, fill=value)
    elif kind == "circle":
        draw_disc(draw, value, places[0], math.dist(places[0], places[1]))
    elif kind == "point":
        draw_disc(draw, value, places[0], POINT)
    elif kind == "line":
        draw.line(places, fill=value, width=LINE)
    elif kind == "linestrip":
        draw.line(places, fill=value, width=LINE, joint="curve")
    elif kind == "mask":
        draw_painted(mask, value, points, shape["mask"])
    else:
        raise ValueError(f"its shape_type {kind!r} is unknown")


def draw_disc(draw: ImageDraw.ImageDraw, value: int, center: Sequence, radius: float) -> None:
    x, y = center
    box = [x - radius, y - radius, x + radius, y + radius]
    draw.ellipse(box, outline=value, fill=value)


def draw_painted(mask: Image.Image, value: int, corners: np.ndarray, text: str) -> None:
    """What was painted: a PNG in letters, which lies between two corners, both of them inside."""
    with Image.open(io.BytesIO(base64.b64decode(text))) as picture:
        inside = np.array(picture.convert("L")) > 0
    (left, top), (right, bottom) = corners[:2].round().astype(int).tolist()
    is_whole = (corners == corners.round()).all()
    expected = (bottom - top + 1, right - left + 1)
    if is_whole and inside.shape != expected:
        raise ValueError(f"a painted mask of {inside.shape} pixels in a box of {expected}")
    paste(mask, value, left, top, inside)


# ---- COCO and YOLO ----


def draw_runs(mask: Image.Image, value: int, runs: dict) -> None:
    """Run lengths down the columns of the picture."""
    height, width = runs["size"]
    if (width, height) != mask.size:
        raise ValueError(f"runs for {width}×{height} pixels in a picture of {mask.size}")
    counts = runs["counts"]
    if isinstance(counts, str):
        counts = decode_counts(counts)
    paste(mask, value, 0, 0, unrolled(counts, width, height).reshape(width, height).T)


def unrolled(counts: Sequence[int], width: int, height: int) -> np.ndarray:
    """Run lengths, of zeros and ones in turn, as so many pixels in a row, bool."""
    lengths = np.asarray(counts, np.int64)
    if (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"runs that add up to {lengths.sum()}, not to {width}×{height}")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)


def decode_counts(text: str) -> list[int]:
    """Run lengths from COCO's letters, which hold six bits each: five of a number, the lowest
    first, and whether more follow. From the fourth run on it is the difference to the one before
    the last."""
    counts: list[int] = []
    number = shift = 0
    for letter in text:
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise ValueError("run lengths in letters that are none of COCO's")
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:  # the sign
            number -= 1 << shift
        if len(counts) > 2:
            number += counts[-2]
        counts.append(number)
        number = shift = 0
    if shift:
        raise ValueError("run lengths that end in the middle of a number")
    return counts


def steps_between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The fine grid's points on a line, (N, 2), from start to end, both counted."""
    spans = np.abs(end - start)
    long = 0 if spans[0] >= spans[1] else 1
    is_backwards = start[long] > end[long]
    first, last = (end, start) if is_backwards else (start, end)
    slope = (last[1 - long] - first[1 - long]) / max(1, spans[long])
    along = np.arange(spans[long] + 1)
    if is_backwards:
        along = along[::-1]
    points = np.empty((len(along), 2), np.int64)
    points[:, long] = first[long] + along
    points[:, 1 - long] = (first[1 - long] + slope * along + 0.5).astype(np.int64)
    return points


def draw_polygon(mask: Image.Image, value: int, flat: Sequence[float]) -> None:
    """A polygon x1, y1, x2, y2, … as COCO's own code draws it: where its border crosses the middle
    of a column, what lies below changes sides."""
    corners = as_points(flat, 3, "polygon")
    fine = (corners * FINE + 0.5).astype(np.int64)
    around = np.concatenate([fine, fine[:1]])
    border = np.concatenate([steps_between(*ends) for ends in zip(around, around[1:])])
    lower = np.minimum(border[1:], border[:-1])  # of each two that follow one another
    crossed = lower[border[1:, 0] != border[:-1, 0]]
    columns, rows = ((crossed + 0.5) / FINE - 0.5).T
    is_middle = (columns == np.floor(columns)) & (columns >= 0) & (columns <= mask.width - 1)
    columns = columns[is_middle].astype(np.int64)
    rows = np.ceil(rows[is_middle].clip(0, mask.height)).astype(np.int64)
    if len(rows) == 0 or rows.min() == rows.max():
        return
    left, top = columns.min(), rows.min()
    shape = (columns.max() - left + 1, rows.max() - top + 1)  # all that it may cover, on its side
    crossings = np.zeros(shape, np.uint8)
    np.add.at(crossings, (columns - left, rows - top), 1)
    inside = crossings.cumsum(axis=1, dtype=np.uint8) % 2 == 1  # odd stays odd beyond 255
    paste(mask, value, int(left), int(top), inside.T[:-1])


def draw_shares(mask: Image.Image, value: int, flat: Sequence[float]) -> None:
    """A polygon in shares of the picture's width and height."""
    draw_polygon(mask, value, (as_points(flat, 3, "polygon") * mask.size).ravel())


# ---- CVAT ----


def draw_rows(mask: Image.Image, value: int, painted: dict) -> None:
    """Run lengths along the rows of a box."""
    height, width = painted["size"]
    if width > mask.width or height > mask.height:
        raise ValueError(f"a box of {width}×{height} pixels in a picture of {mask.size}")
    inside = unrolled(painted["counts"], width, height).reshape(height, width)
    paste(mask, value, *painted["corner"], inside)


def draw_ellipse(mask: Image.Image, value: int, numbers: Sequence[float]) -> None:
    """Middle, half axes and degrees; OpenCV draws it, with whole pixels."""
    middle, axes = as_points(numbers[:4], 2, "ellipse").round().astype(int).tolist()
    inside = np.zeros((mask.height, mask.width), np.uint8)
    cv2.ellipse(inside, middle, axes, numbers[4], 0, 360, 1, thickness=-1)
    paste(mask, value, 0, 0, inside > 0)


DRAW = {
    "labelme": draw_labelme,
    "runs": draw_runs,
    "polygon": draw_polygon,
    "shares": draw_shares,
    "rows": draw_rows,
    "ellipse": draw_ellipse,
}
