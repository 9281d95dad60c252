"""labelme's files as it leaves them beside the pictures, and broken ones."""

import json
import unicodedata

from toolbox.sources import open_source
from toolbox.sources.labelme import Labelme
from toolbox.values import IGNORE

import exports
import pytest
from exports import CORNER, SIZE, SQUARE, ids_of, labelme, refused, shape

from dataset import prepare


def read(folder):
    assert isinstance(open_source(str(folder), ""), Labelme)
    return prepare(str(folder), "", (16, 16))


@pytest.fixture
def folder(tmp_path):
    """Four pictures, each with a square and a corner."""
    for name in "abcd":
        shapes = [shape("Auto", SQUARE), shape("weg", CORNER)]
        labelme(tmp_path / "mine" / f"{name}.jpg", shapes)
    return tmp_path / "mine"


def test_a_folder_as_labelme_leaves_it_is_read_and_named(folder):
    data = read(folder)
    assert data.table.names == ["background", "Auto", "weg"]
    assert sorted(map(len, data.splits.values())) == [1, 1, 2]
    mask = ids_of(data, "a")
    assert (mask[3:9, 2:10] == 1).all() and (mask == 1).sum() == 48
    assert mask[1, 12] == mask[6, 18] == 2 and mask[10, 10] == 0
    assert data.notes[0] == (
        "taken for labelme's JSON files: 4 pictures with 8 shapes; what no shape covers is "
        "background"
    )


def test_later_shapes_lie_on_top_and_background_makes_holes(folder):
    hole = [[4, 5], [6, 5], [6, 6], [4, 6]]
    shapes = [shape("Auto", SQUARE), shape("_background_", hole), shape("weg", [[2, 3]], "point")]
    labelme(folder / "a.jpg", shapes[:2])
    labelme(folder / "b.jpg", [shapes[0], shapes[2]])
    labelme(folder / "c.jpg", [shapes[2], shapes[0]])
    data = read(folder)
    assert (ids_of(data, "a")[5:7, 4:7] == 0).all() and (ids_of(data, "a") == 1).sum() == 48 - 6
    assert ids_of(data, "b")[3, 2] == 2 and ids_of(data, "c")[3, 2] == 1


def test_ignore_is_ignored_and_an_older_files_shapes_without_a_type_are_polygons(folder):
    shapes = [shape("Auto", SQUARE, None), shape("__ignore__", CORNER)]
    del shapes[1]["shape_type"]
    labelme(folder / "a.jpg", shapes)
    mask = ids_of(read(folder), "a")
    assert (mask == 1).sum() == 48 and mask[1, 12] == IGNORE


def test_labels_txt_gives_the_order_and_what_it_lacks_is_named(folder):
    (folder / "labels.txt").write_text("__ignore__\n_background_\nweg\nHund\nAuto\n")
    data = read(folder)
    assert data.table.names == ["background", "weg", "Auto"]
    assert "no class, as no mask has a pixel of it: Hund" in data.notes
    labelme(folder / "b.jpg", [shape("Katze", SQUARE), shape("auto ", CORNER)])
    said = refused(folder)
    assert "b.json has the label 'Katze', which is not in labels.txt; add them there" in said
    assert "'auto ', which is not in labels.txt; it is probably 'Auto'" in said


def test_labels_that_differ_by_case_or_blanks_are_named_as_probably_one(folder):
    labelme(folder / "a.jpg", [shape("auto ", SQUARE), shape("Auto", CORNER)])
    notes = read(folder).notes
    assert "'Auto' and 'auto ' are probably one class: they differ by case or blanks" in notes


def test_a_label_in_one_picture_that_is_nearly_anothers_is_named_with_its_file(folder):
    for name in "efghi":
        labelme(folder / f"{name}.jpg", [shape("Auto", SQUARE)])
    labelme(folder / "j.jpg", [shape("Atuo", SQUARE), shape("weg", CORNER)])
    (said,) = [note for note in read(folder).notes if "slip" in note]
    assert said.startswith("'Atuo' is in j.json alone, and 'Auto' in 9 pictures")


def test_a_picture_without_a_json_is_left_out_and_counted(folder):
    exports.save_picture(folder / "new.png", 7)
    data = read(folder)
    assert len(data.pairs) == 4 and "1 picture(s) without labels left out: new.png" in data.notes


def test_pictures_are_found_by_windows_paths_in_other_folders_and_under_unicode_names(folder):
    (folder / "labels").mkdir()
    (folder / "images").mkdir()
    path = labelme(folder / "größe 木.jpg", [shape("Auto", SQUARE)])
    path.with_suffix(".jpg").rename(folder / "images" / "größe 木.jpg")
    content = json.loads(path.read_text()) | {"imagePath": "..\\images\\größe 木.jpg"}
    exports.write_json(folder / "labels" / path.name, content)
    path.unlink()
    content["imagePath"] = "C:\\Users\\me\\a.jpg"  # where it lay when it was labelled
    exports.write_json(folder / "a.json", content)
    content["imagePath"] = "before it was renamed.jpg"
    exports.write_json(folder / "b.json", content)
    data = read(folder)
    names = [pair.image.name for pair in data.pairs]
    assert sorted(names) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg", "größe 木.jpg"]
    assert (ids_of(data, "größe 木") == 1).sum() == 48


def test_a_renamed_picture_is_the_one_of_its_jsons_name_not_one_in_another_folder(folder):
    path = labelme(folder / "a.jpg", [shape("Auto", SQUARE)], imagePath="old.jpg")
    exports.save_picture(folder / "others" / "old.jpg", 5)
    name = unicodedata.normalize("NFD", "größe.jpg")  # as a Mac writes it
    text = labelme(folder / name, [shape("Auto", SQUARE)], imagePath="größe.jpg")
    text.rename(folder / "5.json")
    data = read(folder)
    names = [pair.image.name for pair in data.pairs]
    assert path.with_suffix(".jpg").name in names and name in names and len(names) == 5


def test_folders_of_splits_are_respected_and_valid_is_val(folder):
    for name, split in zip("abcd", ("train", "train", "valid", "test")):
        for ending in (".jpg", ".json"):
            (folder / split).mkdir(exist_ok=True)
            (folder / f"{name}{ending}").rename(folder / split / f"{name}{ending}")
    labelme(folder / "e.jpg", [shape("Auto", SQUARE)])
    data = read(folder)
    assert {split: len(rows) for split, rows in data.splits.items()} == dict(train=2, val=1, test=1)
    assert "1 picture(s) that are in no split left out: e.jpg" in data.notes


def test_shapes_beyond_the_picture_are_cut_off_and_counted(folder):
    labelme(folder / "a.jpg", [shape("Auto", [[10, 4], [90, 4], [90, 9], [10, 9]])])
    labelme(folder / "b.jpg", [shape("Auto", [[0, 0], [20, 0], [20, 16]])])  # the very border
    data = read(folder)
    assert "1 shape(s) reach beyond their pictures and are cut off there: a.jpg" in data.notes
    assert (ids_of(data, "a") == 1).sum() == 6 * 10


def test_a_picture_that_was_labelled_before_its_exif_note_turned_it_is_named(folder):
    exports.save_picture(folder / "a.jpg", 1, turn=6)  # shown 16 wide and 20 high
    said = refused(folder)
    assert "a.jpg is 16×20 (width×height) but its labels in " in said and "for 20×16" in said
    assert "labelled as it lies on disk, before its EXIF note turns it: take that out" in said
    labelme(folder / "a.jpg", [shape("Auto", SQUARE)], imageWidth=16, imageHeight=20)
    assert ids_of(read(folder), "a").shape == (20, 16)  # labelme sees it turned


def test_a_picture_of_another_size_or_turned_since_is_named(folder):
    exports.save_picture(folder / "a.jpg", 1, size=(40, 32))
    exports.save_picture(folder / "b.jpg", 1, size=SIZE[::-1])
    said = refused(folder)
    assert "a.jpg is 40×32 (width×height)" in said and "put back what was labelled" in said
    assert "b.jpg is 16×20" in said and "it was turned after it was labelled" in said


def test_all_that_is_wrong_is_said_at_once(folder):
    labelme(folder / "e.jpg", [shape("Auto", SQUARE[:2]), shape("Auto", CORNER, "cube")])
    labelme(folder / "f.jpg", [shape("Auto", SQUARE)]).with_suffix(".jpg").unlink()
    labelme(folder / "g.jpg", [shape("Auto", SQUARE)], imagePath="a.jpg")
    (folder / "h.json").write_text('{"shapes": [], "imagePath": "h.jp')
    labelme(folder / "i.jpg", [{"points": SQUARE}])
    said = refused(folder)
    assert said.splitlines()[1].startswith("taken for labelme's JSON files")
    assert "shape 1 (Auto) on " in said and "a polygon of 2 point(s), expected 3 or more" in said
    assert "shape 2 (Auto) on " in said and "its shape_type 'cube' is unknown" in said
    assert "f.json is of the picture 'f.jpg', which is not there; put it beside it" in said
    assert "a.jpg is labelled in " in said and "and again in " in said
    assert "h.json can't be read as JSON" in said
    assert "i.json can't be understood as labelme's (KeyError: 'label')" in said
    assert said.startswith("6 thing(s) to put right")


def test_nothing_is_written_beside_the_users_files(folder):
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    read(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_shapes_of_one_kind_that_cover_all_leave_nothing_to_tell_apart(folder):
    whole = [[0, 0], [20, 0], [20, 16], [0, 16]]
    for name in "abcd":
        labelme(folder / f"{name}.jpg", [shape("Auto", whole)])
    assert "are Auto: there is nothing to tell apart" in refused(folder)
    labelme(folder / "a.jpg", [shape("Auto", whole), shape("weg", SQUARE)])
    assert read(folder).table.names == ["Auto", "weg"]


def test_pictures_without_shapes_and_shapes_without_a_label_are_told(folder):
    labelme(folder / "e.jpg", [])
    assert "1 picture(s) have no shape, only background: e.jpg" in read(folder).notes
    labelme(folder / "e.jpg", [shape(None, SQUARE)])
    assert "labelme's (TypeError: a shape has no label)" in refused(folder)


def test_folders_whose_names_say_their_split(folder):
    for split, names in (("train_images", "abcd"), ("val2017", "ef")):
        for name in names:
            labelme(folder / "all" / split / f"{name}.jpg", [shape("Auto", SQUARE)])
    splits = read(folder / "all").splits
    assert {split: len(rows) for split, rows in splits.items()} == {"train": 4, "val": 2}
    labelme(folder / "all" / "test_site_2" / "g.jpg", [shape("Auto", SQUARE)])
    data = read(folder / "all")
    assert "1 picture(s) that are in no split left out: g.jpg" in data.notes
