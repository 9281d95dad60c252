"""Shapes of labelling tools are drawn pixel by pixel as the tools' own converters do it."""

import importlib
import math
import warnings

from toolbox.shapes import DRAW, decode_counts, draw_labelme, draw_polygon, draw_runs

import exports
import numpy as np
import pytest
from PIL import Image


def drawn(kind: str, what: object, size=(20, 16)) -> np.ndarray:
    mask = Image.new("L", size)
    DRAW[kind](mask, 1, what)
    return np.array(mask)


def picture(text: str) -> np.ndarray:
    """A mask written by hand: # is inside."""
    return np.array([[letter == "#" for letter in line] for line in text.split()], np.uint8)


# ---- worked out by hand ----


def test_a_square_of_cocos_ends_before_its_right_and_lower_side():
    mask = drawn("polygon", [1, 1, 4, 1, 4, 3, 1, 3], (6, 5))
    expected = picture("""
        ......
        .###..
        .###..
        ......
        ......""")
    assert np.array_equal(mask, expected)


def test_a_square_of_labelmes_has_both_its_sides():
    shape = exports.shape("a", [[1, 1], [4, 1], [4, 3], [1, 3]])
    expected = picture("""
        ......
        .####.
        .####.
        .####.
        ......""")
    assert np.array_equal(drawn("labelme", shape, (6, 5)), expected)


def test_runs_go_down_the_columns_and_begin_with_zeros():
    counts = [2, 3, 4, 1, 2]
    expected = picture("""
        .#.#
        .#..
        #...""")
    assert np.array_equal(drawn("runs", {"counts": counts, "size": [3, 4]}, (4, 3)), expected)


def test_letters_hold_differences_from_the_fourth_run_on():
    # 5 is "5" (48 + 5); 20 needs two letters: its low five bits with a sign that more follow, then
    # nothing; the fourth run, 3, is told as 3 - 2 = 1, the fifth, 1, as 1 - 20 = -19.
    assert decode_counts("52d01") == [5, 2, 20, 3]
    assert decode_counts("52d01]O") == [5, 2, 20, 3, 1]


def test_letters_that_are_none_are_named():
    with pytest.raises(ValueError, match="none of COCO's"):
        decode_counts("5\n")
    with pytest.raises(ValueError, match="in the middle"):
        decode_counts("5d")


def test_a_ring_drawn_in_one_line_keeps_its_hole():
    ring = [0, 0, 8, 0, 8, 8, 0, 8, 0, 0, 2, 2, 2, 6, 6, 6, 6, 2, 2, 2]
    mask = drawn("polygon", ring, (10, 10))
    assert mask[4, 4] == 0 and mask[1, 1] == 1 and mask.sum() == 64 - 16


def test_a_polygon_beyond_the_picture_is_cut_off_at_its_border():
    mask = drawn("polygon", [-50, -50, 5, -50, 5, 90, -50, 90], (9, 6))
    assert mask[:, :5].all() and not mask[:, 5:].any()
    assert not drawn("polygon", [30, 30, 40, 30, 40, 40]).any()


def test_labelmes_other_shapes_by_hand():
    rectangle = drawn("labelme", exports.shape("a", [[9, 8], [2, 3]], "rectangle"))
    assert rectangle[3:9, 2:10].all() and rectangle.sum() == 6 * 8
    corners = drawn("labelme", exports.shape("a", exports.SQUARE, "rectangle"))
    assert np.array_equal(corners, rectangle)
    point = drawn("labelme", exports.shape("a", [[8, 8]], "point"))
    assert point[3:14, 8].all() and point[8, 3:14].all() and not point[3, 3]
    line = drawn("labelme", exports.shape("a", [[10, 1], [10, 14]], "line"))
    assert (line.sum(axis=1)[1:15] == 10).all()
    circle = drawn("labelme", exports.shape("a", [[8, 8], [8, 12]], "circle"))
    assert circle[4:13, 8].all() and not circle[3, 8] and not circle[4, 4]


def test_what_was_painted_lies_at_its_corners_and_is_cut_off_at_the_border():
    inside = np.array([[1, 0, 1], [0, 1, 1]], bool)
    mask = drawn("labelme", exports.painted("a", 5, 7, inside))
    assert np.array_equal(mask[7:9, 5:8], inside) and mask.sum() == 4
    mask = drawn("labelme", exports.painted("a", -1, -1, inside))
    assert np.array_equal(mask[:1, :2], inside[1:, 1:]) and mask.sum() == 2


@pytest.mark.parametrize(
    "kind, what, sentence",
    [
        ("polygon", [1, 1, 5, 5], "a polygon of 2 point"),
        ("polygon", [1, 1, 5, 5, 3], "5 numbers, of which one"),
        ("polygon", [1, 1, 5, 5, math.nan, 3], "no number"),
        ("polygon", [1, 1, 5, 5, 1e9, 3], "out of all bounds"),
        ("shares", [0.1, 0.2], "a polygon of 1 point"),
        ("runs", {"counts": [5], "size": [16, 20]}, "add up to 5, not to 20×16"),
        ("runs", {"counts": [4], "size": [2, 2]}, "runs for 2×2 pixels"),
        ("labelme", exports.shape("a", [[1, 1], [2, 2]]), "a polygon of 2 point"),
        ("labelme", exports.shape("a", [[1, 1]], "linestrip"), "a linestrip of 1 point"),
        ("labelme", exports.shape("a", [[1, 1], [2, 2]], "cube"), "'cube' is unknown"),
    ],
)
def test_what_cannot_be_drawn_is_said(kind, what, sentence):
    with pytest.raises(ValueError, match=sentence):
        drawn(kind, what)


# ---- against the tools' own converters ----


def random_polygon(rng: np.random.Generator, width: int, height: int) -> list[float]:
    """Some reach beyond the picture, some stand on whole or half pixels or say a point twice."""
    points = rng.uniform(-0.3, 1.3, (rng.integers(3, 12), 2)) * (width, height)
    kind = rng.integers(4)
    if kind == 1:
        points = points.round()
    elif kind == 2:
        points = (2 * points).round() / 2
    elif kind == 3:
        points = np.concatenate([points, points[:1], points[:1]])
    return points.ravel().tolist()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of its own
def test_polygons_are_pycocotools():
    masks = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    rng = np.random.default_rng(0)
    for _ in range(400):
        width, height = rng.integers(1, 60, 2).tolist()
        polygon = random_polygon(rng, width, height)
        expected = masks.decode(masks.frPyObjects([polygon], height, width))[..., 0]
        assert np.array_equal(drawn("polygon", polygon, (width, height)), expected), polygon


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_runs_in_letters_and_in_numbers_are_pycocotools():
    masks = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    rng = np.random.default_rng(0)
    for scale in (1, 1, 7, 40):
        noise = rng.random((9, 5)) < rng.random()
        expected = np.kron(noise, np.ones((scale, scale))).astype(np.uint8)
        height, width = expected.shape
        text = masks.encode(np.asfortranarray(expected))["counts"].decode()
        for counts in (text, decode_counts(text)):
            runs = {"counts": counts, "size": [height, width]}
            assert np.array_equal(drawn("runs", runs, (width, height)), expected)


def labelmes_own():
    """labelme's converter, and whether it is of version 7 or later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("labelme._utils", "labelme.utils"):
            try:
                return importlib.import_module(name), name == "labelme._utils"
            except ImportError:
                continue
    pytest.skip("labelme is not installed, or its window's library is not")


def random_shape(rng: np.random.Generator, kind: str) -> dict:
    counts = {"polygon": rng.integers(3, 9), "oriented_rectangle": 4, "point": 1}
    counts["linestrip"] = rng.integers(2, 6)
    points = rng.uniform(-5, 45, (counts.get(kind, 2), 2))
    return exports.shape("a", points.tolist(), kind)


KINDS = ("polygon", "oriented_rectangle", "rectangle", "circle", "line", "linestrip", "point")


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_are_labelmes(kind):
    own, is_new = labelmes_own()
    if kind == "linestrip" and not is_new:
        pytest.skip("before version 7 labelme left notches where lines turn")
    rng = np.random.default_rng(0)
    for _ in range(60):
        shape = random_shape(rng, kind)
        expected = own.shape_to_mask((30, 40), shape["points"], shape_type=kind)
        assert np.array_equal(drawn("labelme", shape, (40, 30)), expected), shape


def test_painted_masks_are_labelmes_and_later_shapes_lie_on_top():
    own, _ = labelmes_own()
    rng = np.random.default_rng(0)
    ids = {"a": 1, "b": 2, "_background_": 0}
    for _ in range(20):
        shapes = [random_shape(rng, KINDS[i % 5]) for i in range(6)]
        shapes.append(exports.painted("a", 4, 6, rng.random((9, 7)) < 0.5))
        shapes.append(random_shape(rng, "polygon"))
        for i, shape in enumerate(shapes):
            shape["label"] = [*ids][i % 3]
        mask, theirs = Image.new("L", (40, 30)), []
        for shape in shapes:
            draw_labelme(mask, ids[shape["label"]], shape)
            inside = own.img_b64_to_arr(shape["mask"]).astype(bool) if shape["mask"] else None
            theirs.append({**shape, "mask": inside})
        expected, _ = own.shapes_to_label(
            img_shape=(30, 40), shapes=theirs, label_name_to_value=ids
        )
        assert np.array_equal(np.array(mask), expected)


def test_a_large_picture_of_many_small_polygons_is_drawn_in_no_time():
    """Each polygon touches its own box alone: 300 of them in 24 million pixels."""
    mask = Image.new("L", (6000, 4000))
    for i in range(300):
        x, y = 20 * i % 5900, 13 * i % 3900
        draw_polygon(mask, 1, [x, y, x + 10, y, x + 10, y + 10, x, y + 10])
    assert np.array(mask).sum() == 300 * 100
    draw_runs(mask, 2, {"counts": [0, 24_000_000], "size": [4000, 6000]})
    assert np.array(mask).min() == 2
