"""Many problems of one cause are told as one, with the likely cure; a file lists all."""

import os
from pathlib import Path

from toolbox import findings
from toolbox.errors import InputError
from toolbox.findings import FIRST_LINE, Cause, FileInputError, told
from toolbox.names import likely_cure

import numpy as np
import pytest
from conftest import draw_squares
from PIL import Image

from dataset import prepare


@pytest.fixture(autouse=True)
def own_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(findings, "OUTPUT", "TrainingOutput")


def refused(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        prepare(str(folder), "", (16, 16))
    return str(caught.value)


def empty_files(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"")


def test_five_hundred_masks_of_another_ending_are_a_handful_of_lines(tmp_path):
    empty_files(tmp_path / "own" / "images", [f"p{i}.png" for i in range(500)])
    empty_files(tmp_path / "own" / "masks", [f"p{i}_seg.png" for i in range(500)])
    said = refused(Path("own"))
    assert said.splitlines() == [
        "1000 thing(s) to put right in own, where 0 pairs were found:",
        "each of them is listed in TrainingOutput/problems-own.txt",
        "all 500 masks end in _seg; without that in their names 500 pairs fit: rename the files so",
        "500 images have no mask: images/p0.png, images/p1.png, images/p10.png and 497 more; take "
        "them out, or add masks of the same names",
        "500 masks have no image: masks/p0_seg.png, masks/p100_seg.png, masks/p101_seg.png and 497 "
        "more; take them out, or add images of the same names",
    ]
    listed = Path("TrainingOutput/problems-own.txt").read_text().splitlines()
    assert listed[0] == FIRST_LINE and len(listed) == 1004
    assert "own/masks/p77_seg.png has no image; take it out, or add one of the same name" in listed


def test_three_of_a_cause_are_told_one_by_one_and_leave_no_file(tmp_path):
    folder = draw_squares(tmp_path / "own", 6)
    for i in range(3):
        (folder / "masks" / f"p{i}.png").unlink()
    assert refused(folder).count(".png has no mask; take it out, or add one of the same name") == 3
    assert not Path("TrainingOutput").exists()
    (folder / "masks" / "p3.png").unlink()
    assert "4 images have no mask: images/p0.png, images/p1.png" in refused(folder)


def test_the_list_is_never_written_over_a_file_of_somebody_elses(tmp_path):
    empty_files(tmp_path / "own" / "images", [f"p{i}.png" for i in range(9)])
    (tmp_path / "own" / "masks").mkdir()
    (tmp_path / "TrainingOutput").mkdir()
    mine = tmp_path / "TrainingOutput" / "problems-own.txt"
    mine.write_text("notes of mine\n")
    (tmp_path / "TrainingOutput" / "problems-own-2.txt").symlink_to("nowhere.txt")
    for _ in range(2):  # the second time, what it wrote before is its own
        assert "each of them is listed in TrainingOutput/problems-own-3.txt" in refused(Path("own"))
    assert mine.read_text() == "notes of mine\n"
    assert len(list((tmp_path / "TrainingOutput").iterdir())) == 3


def test_where_the_list_cannot_be_written_all_of_it_is_said(tmp_path):
    empty_files(tmp_path / "own" / "images", [f"p{i}.png" for i in range(9)])
    (tmp_path / "own" / "masks").mkdir()
    (tmp_path / "TrainingOutput").write_text("a file")
    said = refused(Path("own"))
    assert said.count("has no mask; take it out") == 9 and "can't be written to a file" in said


def test_a_name_that_is_no_text_is_listed_all_the_same(tmp_path):
    cause = Cause("things are odd", "mend them")
    odd = os.fsdecode(b"p\xff.png")
    problems = [FileInputError(f"{odd} {i} is odd", cause, odd) for i in range(5)]
    told(problems, tmp_path / "own", 0)
    assert "p\\udcff.png 4 is odd" in (tmp_path / "TrainingOutput" / "problems-own.txt").read_text()


def test_plain_sentences_of_a_source_of_ones_own_are_told_too(tmp_path):
    said = str(told(["a is wrong", InputError("b is wrong"), "a is wrong"], tmp_path, 4))
    assert said.splitlines()[1:] == ["a is wrong", "b is wrong"] and "2 thing(s)" in said
    said = str(told([f"{i} is wrong" for i in range(9)], tmp_path, 4))
    assert "9 other things: 0 is wrong, 1 is wrong, 2 is wrong and 6 more" in said


def test_a_table_to_copy_comes_last(tmp_path):
    folder = draw_squares(tmp_path / "own", 8, table=False)
    for i in range(5):
        (folder / "images" / f"p{i}.png").write_bytes(b"torn")
    said = refused(folder)
    assert "5 files can't be read as pictures: images/p0.png" in said
    assert said.splitlines()[-4] == "id,name,red,green,blue"


def test_an_error_that_a_worker_sends_is_made_of_its_sentence():
    error = FileInputError("p0.png is torn")
    assert str(error) == "p0.png is torn" and error.cause == findings.OTHER
    assert type(error).__name__.endswith("InputError")  # where a worker's traceback is cut off


@pytest.mark.parametrize("times", [0.5, 2])
def test_masks_of_another_size_say_what_they_have_in_common(tmp_path, times):
    folder = draw_squares(tmp_path / "own", 5, size=(24, 32))
    for path in (folder / "masks").iterdir():
        with Image.open(path) as picture:
            other = picture.resize([int(times * side) for side in picture.size], 0)
        other.save(path)
    said = refused(folder)
    assert f"5 masks have another size than their images, all {times:g} times as wide and" in said


def test_masks_on_their_side_are_one_problem(tmp_path):
    folder = draw_squares(tmp_path / "own", 5, size=(24, 32))
    for path in (folder / "masks").iterdir():
        with Image.open(path) as picture:
            turned = picture.transpose(Image.Transpose.ROTATE_90)
        turned.save(path)
    assert "5 masks lie on their side: their width is their image's height" in refused(folder)


def test_unknown_values_say_what_they_have_in_common(tmp_path):
    folder = draw_squares(tmp_path / "own", 5)
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.resize(np.array([0, 1, 2, 7], np.uint8), (16, 16))).save(path)
    said = refused(folder)
    assert "5 masks hold values that are not in the class table, all hold 7: masks/p0.png" in said


def test_pictures_and_masks_that_were_exchanged_are_recognised(tmp_path):
    folder = draw_squares(tmp_path / "own", 6)
    (folder / "images").rename(folder / "other")
    (folder / "masks").rename(folder / "images")
    (folder / "other").rename(folder / "masks")
    said = refused(folder)
    assert "exchange what lies in images and in masks" in said and len(said.splitlines()) < 6


PLAIN = [f"p{i:02}" for i in range(1, 21)]


@pytest.mark.parametrize(
    "images, masks, said",
    [
        (PLAIN, [f"{name}_label" for name in PLAIN], "all 20 masks end in _label; "),
        (PLAIN, [f"mask_{name}" for name in PLAIN], "all 20 masks begin with mask_; "),
        (
            [f"image_{name}" for name in PLAIN],
            [f"mask_{name}" for name in PLAIN],
            "all 20 masks begin with mask_ and all 20 images begin with image_; ",
        ),
        ([f"{name}_img" for name in PLAIN], PLAIN, "all 20 images end in _img; "),
        ([*PLAIN, "odd"], [f"{name}_L" for name in PLAIN] + ["x"], "20 of 21 masks end in _L; "),
        (PLAIN, [f"{name}.jpg" for name in PLAIN], "all 20 masks end in .jpg; "),
        (PLAIN, [name.upper() for name in PLAIN], "in their names by upper and lower case only"),
        (PLAIN, [name.replace("p", "p00") for name in PLAIN], "by zeros before numbers only"),
        (["a tree", "a house"], ["a_tree", "a_house"], "by blanks, - and _ only"),
        (["f\u00fcr"], ["fu\u0308r"], "by how accents are written"),
        (["Tree 1"], ["tree_01"], "by case, blanks, accents and zeros before numbers only"),
        (PLAIN, PLAIN, "20 images and masks of the same names lie in other splits"),
        (PLAIN, [f"q{i}" for i in range(50, 70)], ""),
        ([], PLAIN, ""),
        (["tree"], ["house_seg"], ""),
    ],
)
def test_what_names_differ_in_is_found(images, masks, said):
    found = likely_cure(images, masks)
    assert said in found[0] if said else not found
