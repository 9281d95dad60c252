"""A data set ready to train on: all that is wrong with it said at once, and its splits."""

import itertools

from toolbox import cache
from toolbox.errors import InputError
from toolbox.masks import IGNORE
from toolbox.prepared import overview
from toolbox.sources.base import Pair
from toolbox.splits import split_pairs

import numpy as np
import pytest
from conftest import draw_squares
from PIL import Image

from dataset import prepare


def test_all_problems_inside_files_are_listed_at_once(tmp_path):
    folder = draw_squares(tmp_path / "own", 5)
    Image.fromarray(np.full((16, 16), 77, np.uint8)).save(folder / "masks" / "p0.png")
    Image.fromarray(np.zeros((8, 16), np.uint8)).save(folder / "masks" / "p1.png")
    (folder / "images" / "p2.png").write_bytes(b"torn")
    with pytest.raises(InputError) as caught:
        prepare(str(folder), "", (16, 16))
    sentences = str(caught.value)
    assert "3 thing(s) to put right" in sentences and "77 (256 pixels)" in sentences
    assert "p1.png is 16×8; a mask has" in sentences and "p2.png can't be read" in sentences
    assert not list(cache.CACHE.iterdir())


def test_a_folder_has_its_own_name_wherever_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(draw_squares(tmp_path / "own", 9))
    assert prepare(".", "", (16, 16)).name == "own"


def test_problems_of_every_kind_are_named_at_once(tmp_path):
    folder = draw_squares(tmp_path / "own", 6, table=False)
    (folder / "masks" / "p0.png").unlink()
    (folder / "images" / "p1.png").write_bytes(b"torn")
    Image.fromarray(np.zeros((8, 16), np.uint8)).save(folder / "masks" / "p2.png")
    with pytest.raises(InputError) as caught:
        prepare(str(folder), "", (16, 16))
    for sentence in ("p0.png has no mask", "p1.png can't be read", "p2.png is 16×8", "others need"):
        assert sentence in str(caught.value)


def test_a_class_without_a_pixel_is_named(tmp_path):
    folder = draw_squares(tmp_path / "own", 4)
    with open(folder / "classes.csv", "a") as file:
        file.write("3,bicycle,9,9,9\n")
    with pytest.raises(
        InputError, match="no mask has a pixel of class 3 bicycle; take its row out of classes.csv"
    ):
        prepare(str(folder), "", (16, 16))


def test_a_split_without_any_class_is_said(tmp_path):
    folder = draw_squares(tmp_path / "own", 6)
    for split, numbers in (("train", range(4)), ("val", range(4, 6))):
        for name in ("images", "masks"):
            (folder / name / split).mkdir()
            for i in numbers:
                (folder / name / f"p{i}.png").rename(folder / name / split / f"p{i}.png")
    for path in (folder / "masks" / "val").iterdir():
        Image.fromarray(np.full((16, 16), IGNORE, np.uint8)).save(path)
    assert "val has no pixel with a class: its scores stay empty" in overview(
        prepare(str(folder), "", (16, 16))
    )


def test_row_24_the_same_picture_in_two_splits_is_named(tmp_path):
    folder = draw_squares(tmp_path / "own", 6)
    for split, names in (("train", range(4)), ("val", range(4, 6))):
        for name in ("images", "masks"):
            (folder / name / split).mkdir()
            for i in names:
                (folder / name / f"p{i}.png").rename(folder / name / split / f"p{i}.png")
    prepare(str(folder), "", (16, 16))
    with Image.open(folder / "images" / "train" / "p2.png") as picture:
        picture.save(
            folder / "images" / "val" / "p4.png", compress_level=1
        )  # the same pixels in another file
    for _ in range(2):  # the second time nothing is read again
        with pytest.raises(
            InputError,
            match="p4.png in val is the same picture as .*p2.png in train; take one of them out",
        ):
            prepare(str(folder), "", (16, 16))


def test_row_24_splits_are_disjoint_whole_and_kept_by_group():
    pairs = [Pair(None, None, group=f"car{i // 4}") for i in range(200)]
    splits = split_pairs(pairs, seed=3)
    assert [len(splits[name]) for name in ("train", "val", "test")] == [136, 32, 32]
    assert sorted(itertools.chain(*splits.values())) == list(range(200))
    groups = [{pairs[i].group for i in rows} for rows in splits.values()]
    assert not groups[0] & groups[1] and not groups[0] & groups[2] and not groups[1] & groups[2]
    assert split_pairs(pairs, 3) == splits != split_pairs(pairs, 4)
    assert {name: len(rows) for name, rows in split_pairs([Pair(None, None)] * 2, 0).items()} == {
        "train": 1,
        "val": 1,
    }
    with pytest.raises(InputError, match="at least 2"):
        split_pairs(pairs[:1], 0)


def test_row_24_without_val_it_is_taken_from_train_and_never_from_test():
    pairs = [Pair(None, None, "train" if i < 20 else "test") for i in range(25)]
    splits = split_pairs(pairs, 0)
    assert (
        splits["test"] == [20, 21, 22, 23, 24]
        and len(splits["val"]) == 3
        and sorted(splits["train"] + splits["val"]) == list(range(20))
    )
    with pytest.raises(InputError, match="no pairs to train on, only val"):
        split_pairs([Pair(None, None, "val")] * 3, 0)
