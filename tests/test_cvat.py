"""CVAT's segmentation masks, whose colours labelmap.txt explains."""

from toolbox.sources import open_source
from toolbox.sources.cvat import Cvat

import exports
import numpy as np
import pytest
from exports import refused
from PIL import Image

from dataset import prepare, read_ids

LABELS = {"car": (250, 50, 83), "background": (0, 0, 0), "dog": (9, 9, 9), "road": (1, 1, 1)}
NAMES = ("a", "b b", "größe", "d", "e")


def numbers(i: int) -> np.ndarray:
    """A mask of the numbers of labels: background, and some of car and road."""
    mask = np.ones((16, 20), np.uint8)
    mask[2:8, 3 + i : 9], mask[10:, :4] = 0, 3
    return mask


def read(folder):
    assert isinstance(open_source(str(folder), ""), Cvat)
    return prepare(str(folder), "", (16, 16))


@pytest.fixture
def folder(tmp_path):
    exports.cvat(tmp_path / "mine", LABELS, {name: numbers(i) for i, name in enumerate(NAMES)})
    return tmp_path / "mine"


def check_ids(data) -> None:
    for pair in data.pairs:
        ids = read_ids(pair.mask, data.table.meaning, data.source.read_values)
        expected = np.array([1, 0, 9, 2])[numbers(NAMES.index(pair.image.stem))]
        assert np.array_equal(ids, expected)


def test_the_labels_that_have_pixels_are_the_classes_and_background_comes_first(folder):
    data = read(folder)
    assert data.table.names == ["background", "car", "road"]
    assert data.table.colors == [(0, 0, 0), (250, 50, 83), (1, 1, 1)]
    assert data.notes[0].startswith("taken for CVAT's segmentation masks: 5 pictures, which lie in")
    assert "no class, as no mask has a pixel of it: dog" in data.notes
    assert sorted(map(len, data.splits.values())) == [1, 1, 3]
    check_ids(data)


def test_palettes_are_read_by_their_colours(folder):
    for path in (folder / "SegmentationClass").iterdir():
        with Image.open(path) as picture:
            picture.quantize(8, dither=Image.Dither.NONE).save(path)
        with Image.open(path) as picture:
            assert picture.mode == "P"
    check_ids(read(folder))


@pytest.mark.parametrize("place", ["images", "data", ".", "../images"])
def test_pictures_are_found_elsewhere_and_where_is_said(tmp_path, place):
    masks = {name: numbers(i) for i, name in enumerate(NAMES)}
    exports.cvat(tmp_path / "mine", LABELS, masks, place)
    data = read(tmp_path / "mine")
    check_ids(data)
    assert data.notes[0].endswith(str(tmp_path / "mine" / place))


def test_lists_give_the_splits_and_what_is_in_none_is_left_out(folder):
    lists = folder / "ImageSets" / "Segmentation"
    (lists / "default.txt").unlink()
    (lists / "train.txt").write_text('a\n"b b"\n', encoding="utf-8")
    (lists / "val.txt").write_text("größe\n", encoding="utf-8")
    (lists / "test.txt").write_text("d\n")
    data = read(folder)
    assert {split: len(rows) for split, rows in data.splits.items()} == dict(train=2, val=1, test=1)
    left_out = "1 picture(s) left out, as they have no mask or are in no list: e.jpg"
    assert left_out in data.notes
    check_ids(data)


def test_all_that_is_wrong_is_said_at_once(folder):
    (folder / "JPEGImages" / "a.jpg").unlink()
    with Image.open(folder / "SegmentationClass" / "d.png") as picture:
        picture.putpixel((5, 5), (77, 66, 55))
        picture.save(folder / "SegmentationClass" / "d.png")
        picture.crop((6, 6, 15, 15)).save(folder / "SegmentationClass" / "e.png")
    said = refused(folder)
    assert "SegmentationClass/a.png has no picture; take it out, or put its picture back" in said
    assert "a is named in " in said and "but there is no such picture" in said
    assert "holds colour (77, 66, 55) (1 pixels), not in the class table" in said
    assert "e.png is 9×9; a mask has its image's size" in said
    assert "taken for CVAT's segmentation masks: 4 pictures" in said


@pytest.mark.parametrize(
    "line, sentence",
    [
        ("cat:1,2::", "the line 'cat:1,2::'; expected label:red,green,blue:parts:actions"),
        ("cat", "the line 'cat'; expected label:"),
        ("cat:250,50,83::", "expected a name and a colour of its own"),
        ("cat:1,2,300::", "each number from 0 to 255"),
    ],
)
def test_a_labelmap_that_cannot_be_understood_is_named(folder, line, sentence):
    with open(folder / "labelmap.txt", "a") as file:
        file.write(f"{line}\n")
    assert sentence in refused(folder)


def test_masks_without_any_picture_are_told_where_these_were_looked_for(folder):
    (folder / "JPEGImages").rename(folder / "pictures")
    said = refused(folder)
    assert "looked for in JPEGImages, images, data, ., ../images: put them into JPEGImages" in said


def test_a_list_of_all_says_nothing_of_what_others_have_said(folder):
    lists = folder / "ImageSets" / "Segmentation"
    (lists / "default.txt").unlink()
    (lists / "train.txt").write_text("a\nb b\n")
    (lists / "val.txt").write_text("größe\nd\n")
    (lists / "trainval.txt").write_text("a\nb b\ngröße\nd\n")
    (folder / "classes.csv").write_text("id,name,red,green,blue\n")
    data = read(folder)
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 2, "val": 2}
    assert "classes.csv is not read here: labelmap.txt lists the classes" in data.notes
