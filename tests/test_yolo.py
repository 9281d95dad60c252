"""YOLO's segmentation labels in the layouts of Ultralytics, Roboflow, CVAT and Label Studio."""

from toolbox.sources import open_source
from toolbox.sources.yolo import Yolo

import exports
import numpy as np
import pytest
from exports import CORNER, SQUARE, ids_of, line, refused, yolo
from PIL import Image

from dataset import prepare


def read(folder):
    assert isinstance(open_source(str(folder), ""), Yolo)
    return prepare(str(folder), "", (16, 16))


def five(root, layout: str, splits=("train", "train", "train", "valid", "test")) -> None:
    """Pictures of a square, class 1, and a corner, class 0."""
    for name, split in zip("abcde", splits):
        folder = root / layout.format(split=split)
        yolo(folder / f"{name}.jpg", [line(1, SQUARE), line(0, CORNER), ""])


ROBOFLOW = """train: ../train/images
val: ../valid/images
test: ../test/images

nc: 2
names: ['road', 'car']  # of the project

roboflow:
  project: streets
"""
NAMES = [
    "names: [road, car]",
    'names:\n- "road"\n- car\n',
    "names:\n  0: road\n  1: 'car'  # red ones\nnc: 2\n",
    "names: {1: car, 0: road}",
    "nc: 2\nnames: [\n  'road',\n  'car'\n]",
]


def test_roboflows_layout(tmp_path):
    five(tmp_path, "{split}/images")
    (tmp_path / "data.yaml").write_text(ROBOFLOW)
    data = read(tmp_path)
    assert {split: len(rows) for split, rows in data.splits.items()} == dict(train=3, val=1, test=1)
    assert data.table.names == ["background", "road", "car"]
    assert data.notes == [
        "taken for YOLO's segmentation labels: 5 pictures with 10 shapes; what no shape covers is "
        "background"
    ]
    mask = ids_of(data, "d")
    assert (mask[3:8, 2:9] == 2).all() and (mask == 2).sum() == 35 and mask[2, 15] == 1


@pytest.mark.parametrize("names", NAMES)
def test_the_forms_of_data_yaml(tmp_path, names):
    five(tmp_path, "images/{split}")
    (tmp_path / "coco8.yaml").write_text(names)
    data = read(tmp_path)
    assert data.table.names == ["background", "road", "car"]
    assert {split: len(rows) for split, rows in data.splits.items()} == dict(train=3, val=1, test=1)


def test_numbers_may_have_gaps_and_names_stay_text(tmp_path):
    five(tmp_path, "images/{split}")
    for text in tmp_path.rglob("*.txt"):
        text.write_text(text.read_text().replace("1 0.1", "7 0.1"))
    (tmp_path / "data.yaml").write_text("names: {0: no, 5: dog, 7: 1.50}")
    data = read(tmp_path)
    assert data.table.names == ["background", "no", "1.50"]
    assert "no class, as no mask has a pixel of it: dog" in data.notes


def test_splits_that_only_data_yaml_names(tmp_path):
    five(tmp_path, "images/{split}", ("part1", "part1", "part1", "part2", "part3"))
    text = "path: ../sets/mine\ntrain: images/part1\nval:\n - images/part2\nnames: [road, car]"
    (tmp_path / "data.yaml").write_text(text)
    data = read(tmp_path)
    assert {split: len(rows) for split, rows in data.splits.items()} == dict(train=3, val=1)
    assert "1 picture(s) that are in no split left out: e.jpg" in data.notes


def test_label_studios_layout_has_classes_txt_and_no_splits(tmp_path):
    five(tmp_path, "images")
    (tmp_path / "classes.txt").write_text("road\ncar\n")
    (tmp_path / "notes.json").write_text("{}")
    data = read(tmp_path)
    assert sorted(map(len, data.splits.values())) == [1, 1, 3]
    assert data.table.names == ["background", "road", "car"]


def test_boxes_are_left_out_and_an_empty_text_is_background(tmp_path):
    five(tmp_path, "images/{split}")
    yolo(tmp_path / "images" / "train" / "f.jpg", ["0 0.5 0.5 0.1 0.1", line(1, SQUARE)])
    yolo(tmp_path / "images" / "train" / "g.jpg", [])
    exports.save_picture(tmp_path / "images" / "train" / "h.jpg", 3)
    (tmp_path / "data.yaml").write_text("names: [road, car]")
    data = read(tmp_path)
    assert "1 box(es) left out: no mask can be made of a box without an outline" in data.notes
    assert "1 picture(s) without labels left out: h.jpg" in data.notes
    assert (ids_of(data, "f") == 2).sum() == 35 and not ids_of(data, "g").any()


def test_shares_beyond_the_picture_are_cut_off_and_counted(tmp_path):
    five(tmp_path, "images/{split}")
    text = yolo(tmp_path / "images" / "train" / "f.jpg", ["1 0.5 0.5 1.5 0.5 1.5 1 0.5 1"])
    text.write_text(text.read_text() + "\n0 0 0 1.000001 0 0.2 0.2")
    (tmp_path / "data.yaml").write_text("names: [road, car]")
    data = read(tmp_path)
    assert "1 shape(s) reach beyond their pictures and are cut off there: f.jpg" in data.notes
    assert (ids_of(data, "f") == 2).sum() == 10 * 8


def test_a_turned_picture_is_labelled_as_it_is_shown(tmp_path):
    five(tmp_path, "images/{split}")
    yolo(tmp_path / "images" / "train" / "f.jpg", ["1 0 0 1 0 1 0.5 0 0.5"], turn=6)
    (tmp_path / "data.yaml").write_text("names: [road, car]")
    mask = ids_of(read(tmp_path), "f")
    assert mask.shape == (20, 16) and (mask[:10] == 2).all() and not mask[10:].any()


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    five(tmp_path, "images/{split}")
    lines = ["7 0 0 1 0 1 1", "1 0 0 x 0 1 1", "1 0 0 1 1 0 1 1", "0 0.1 0.2"]
    yolo(tmp_path / "images" / "train" / "f.jpg", lines)
    yolo(tmp_path / "images" / "train" / "g.jpg", []).rename(
        tmp_path / "labels" / "train" / "gone.txt"
    )
    (tmp_path / "data.yaml").write_text("names: [road, car]")
    said = refused(tmp_path)
    assert "line 1 of " in said and "can't be understood: 7; expected a class of [0, 1]" in said
    assert "line 2 of " in said and "could not convert string to float: 'x'" in said
    assert "shape 1 (car) on " in said and "7 numbers, of which one has no other" in said
    assert "shape 2 (road) on " in said and "a polygon of 1 point(s)" in said
    assert "gone.txt has no picture; put it back, or take this out" in said


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("nc: 2", "data.yaml has no names:, the list of classes; add it"),
        ("names: [a, b", "data.yaml can't be understood"),
        ("names: {a: b}", "data.yaml has names without a number"),
    ],
)
def test_a_data_yaml_that_says_too_little_is_named(tmp_path, text, sentence):
    five(tmp_path, "images/{split}")
    (tmp_path / "data.yaml").write_text(text)
    assert sentence in refused(tmp_path)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_whole_pictures_are_as_pycocotools_draws_them(tmp_path):
    masks = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    rng = np.random.default_rng(0)
    polygons = {name: rng.uniform(0, 1, (6, 2)) for name in "abcd"}
    for name, polygon in polygons.items():
        words = " ".join(map(repr, polygon.ravel().tolist()))
        yolo(tmp_path / "images" / f"{name}.png", [f"0 {words}"], size=(53, 31))
    (tmp_path / "data.yaml").write_text("names: [a]")
    data = read(tmp_path)
    for name, polygon in polygons.items():
        pixels = [(polygon * (53, 31)).ravel().tolist()]
        expected = masks.decode(masks.frPyObjects(pixels, 31, 53))[..., 0]
        assert np.array_equal(ids_of(data, name), expected)
        with Image.open(tmp_path / "images" / f"{name}.png") as picture:
            assert picture.size == (53, 31)


# ---- as people leave them ----


def splits_of(data) -> dict[str, str]:
    found = {}
    for split, rows in data.splits.items():
        found[split] = "".join(sorted(data.pairs[row].image.stem for row in rows))
    return found


def test_lists_of_pictures_and_folders_written_on_windows_are_followed(tmp_path):
    five(tmp_path, "images")
    (tmp_path / "data.yaml").write_text("names: [road, car]\ntrain: train.txt\nval: lists/val.txt")
    (tmp_path / "train.txt").write_text("./images/a.jpg\n/content/mine/images/b.jpg\nimages/e.jpg")
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "val.txt").write_text("images\\c.jpg\nimages/d.jpg\n")
    assert splits_of(read(tmp_path)) == {"train": "abe", "val": "cd"}
    root = tmp_path / "windows"
    five(root, "images/{split}", ("one", "one", "one", "two", "two"))
    entries = (r"train: C:\mine\images\one", r"val: images\two", "test: images/three")
    (root / "data.yaml").write_text("\n".join(["names: [road, car]", *entries]))
    data = read(root)
    assert splits_of(data) == {"train": "abc", "val": "de"}
    assert "data.yaml names images/three for test, which is not here" in data.notes


def test_folders_in_capitals_and_deep_ones(tmp_path):
    five(tmp_path, "images")
    for name in ("images", "labels"):
        (tmp_path / name).rename(tmp_path / name.title())
    (tmp_path / "data.yaml").write_text("names: [road, car]")
    assert len(read(tmp_path).pairs) == 5
    five(tmp_path / "deep", "images/train/2023/05/site/cam")
    (tmp_path / "deep" / "data.yaml").write_text("names: [road, car]")
    assert len(read(tmp_path / "deep").pairs) == 5


@pytest.mark.parametrize("place", ["classes.txt", "labels/classes.txt"])
def test_a_list_of_classes_beside_the_labels_is_no_label(tmp_path, place):
    five(tmp_path, "images")
    (tmp_path / place).write_text("road\ncar\n")
    assert read(tmp_path).table.names == ["background", "road", "car"]
    (tmp_path / "data.yaml").write_text("names: [way, van]")
    assert read(tmp_path).table.names == ["background", "way", "van"]


def test_darknets_pictures_and_labels_in_one_folder(tmp_path):
    five(tmp_path, "obj_train_data")
    (tmp_path / "obj.names").write_text("road\ncar\n")
    assert read(tmp_path).table.names == ["background", "road", "car"]
    for text in (tmp_path / "obj_train_data").glob("*.txt"):
        text.write_text("2 men. in. a. car. and others\n")
    assert "is no data set that can be read" in refused(tmp_path)


def test_key_points_are_no_outlines(tmp_path):
    five(tmp_path, "images")
    (tmp_path / "data.yaml").write_text("names: [road, car]\nkpt_shape: [3, 2]\n")
    assert "has kpt_shape: the labels are key points, not outlines; export seg" in refused(tmp_path)


def test_names_as_a_list_of_numbered_ones(tmp_path):
    five(tmp_path, "images")
    (tmp_path / "data.yaml").write_text("names:\n - 0: road\n - 1: car\n")
    assert read(tmp_path).table.names == ["background", "road", "car"]
    (tmp_path / "data.yaml").write_bytes("names: [façade, car]".encode("cp1252"))
    said = refused(tmp_path)
    assert "data.yaml is not in UTF-8" in said and said.endswith("save it as UTF-8")


def test_labels_without_names_are_named(tmp_path):
    five(tmp_path, "images")
    assert "labels/ may hold YOLO's: add data.yaml, with names: [first, second]" in refused(
        tmp_path
    )
