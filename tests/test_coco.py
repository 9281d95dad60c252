"""COCO's JSON in the layouts of Roboflow, CVAT and Label Studio, and broken ones."""

from toolbox.shapes import decode_counts
from toolbox.sources import open_source
from toolbox.sources.coco import Coco

import exports
import numpy as np
import pytest
from exports import CORNER, SIZE, SQUARE, CocoFile, flat, ids_of, refused

from dataset import prepare

SQUARE_RUNS = [35, 5, 11, 5, 11, 5, 11, 5, 11, 5, 11, 5, 11, 5, 184]  # 7 columns of 5, from (2, 3)


def read(folder):
    assert isinstance(open_source(str(folder), ""), Coco)
    return prepare(str(folder), "", (16, 16))


def four(folder, text: CocoFile, pictures: str = "images") -> CocoFile:
    """Four pictures whose ids have gaps, with a square and a corner each."""
    for i, name in zip((3, 7, 8, 100), "abcd"):
        exports.save_picture(folder / pictures / f"{name}.jpg", i)
        text.image(f"{name}.jpg", i)
        text.add(i, 5, [flat(SQUARE)])
        text.add(i, 2, [flat(CORNER)])
    return text


def test_cvats_layout_with_gaps_in_ids_and_a_category_without_annotations(tmp_path):
    text = four(tmp_path, CocoFile({5: "car", 2: "road", 9: "dog"}))
    exports.write_json(tmp_path / "annotations" / "instances_default.json", text.content)
    data = read(tmp_path)
    assert data.table.names == ["background", "road", "car"]
    assert "no class, as no mask has a pixel of it: dog" in data.notes
    assert data.notes[0].startswith("taken for COCO's JSON: 4 pictures with 8 shapes")
    assert sorted(map(len, data.splits.values())) == [1, 1, 2]
    mask = ids_of(data, "c")
    assert (mask[3:8, 2:9] == 2).all() and (mask == 2).sum() == 35 and mask[2, 15] == 1


def test_roboflows_layout_and_its_category_for_all(tmp_path):
    for split, name in (("train", "a"), ("train", "b"), ("valid", "c"), ("test", "d")):
        path = tmp_path / split / "_annotations.coco.json"
        text = CocoFile({0: "things", 1: "car"})
        for i, other in enumerate([name, f"{name}2"]):
            exports.save_picture(tmp_path / split / f"{other}.jpg", 2 * ord(name) + i)
            text.image(f"{other}.jpg", i)
            text.add(i, 1, [flat(SQUARE)])
        exports.write_json(path, text.content)
    data = read(tmp_path)
    assert {split: len(rows) for split, rows in data.splits.items()} == dict(train=2, val=2, test=2)
    assert data.table.names == ["background", "car"]
    assert "2 picture(s) without labels left out: a.jpg, a2.jpg" in data.notes


def test_label_studios_layout_and_pictures_of_one_name_in_two_folders(tmp_path):
    text = four(tmp_path, CocoFile({5: "car", 2: "road"}))
    for i, image in enumerate(text.content["images"]):
        image["file_name"] = f"images\\{image['file_name']}" if i else "../../up/load/a.jpg"
    exports.write_json(tmp_path / "result.json", text.content)
    assert len(read(tmp_path).pairs) == 4
    exports.save_picture(tmp_path / "other" / "b.jpg", 9)
    exports.save_picture(tmp_path / "other" / "a.jpg", 9)
    said = refused(tmp_path)
    assert "result.json names ../../up/load/a.jpg, which may be " in said and "b.jpg" not in said


def test_splits_by_the_names_of_the_files_find_their_own_pictures(tmp_path):
    for split in ("train", "val"):
        text = four(tmp_path, CocoFile({5: "car", 2: "road"}), f"{split}2017")
        path = tmp_path / "annotations" / f"instances_{split}2017.json"
        exports.write_json(path, text.content)
        exports.save_picture(tmp_path / f"{split}2017" / "a.jpg", 1000 + ord(split[0]))
        for j, name in enumerate("bcd"):
            exports.save_picture(
                tmp_path / f"{split}2017" / f"{name}.jpg", 2000 + 9 * ord(split[0]) + j
            )
    data = read(tmp_path)
    assert {split: len(rows) for split, rows in data.splits.items()} == dict(train=4, val=4)
    for split, rows in data.splits.items():
        assert {data.pairs[row].image.parent.name for row in rows} == {f"{split}2017"}


def test_of_cocos_own_files_those_of_the_masks_are_taken(tmp_path):
    """captions, key points and more say the same pictures again."""
    text = four(tmp_path, CocoFile({5: "car", 2: "road"}))
    folder = tmp_path / "annotations"
    exports.write_json(folder / "instances_default.json", text.content)
    for kind in ("captions", "image_info", "panoptic", "person_keypoints", "stuff"):
        exports.write_json(folder / f"{kind}_default.json", text.content)
    data = read(tmp_path)
    assert len(data.pairs) == 4
    assert any(
        note.startswith("5 JSON file(s) that hold no masks of COCO's") for note in data.notes
    )


def test_the_panoptic_form_is_named(tmp_path):
    text = four(tmp_path, CocoFile({5: "car", 2: "road"}))
    ids = {"file_name": "a.png", "image_id": 3, "segments_info": []}
    text.content["annotations"] = [ids]
    exports.write_json(tmp_path / "panoptic.json", text.content)
    said = refused(tmp_path)
    assert "panoptic.json is COCO's panoptic form; export instances: polygons, or run" in said


def test_a_single_file_called_test_is_no_split(tmp_path):
    exports.write_json(tmp_path / "test.json", four(tmp_path, CocoFile({5: "a", 2: "b"})).content)
    data = read(tmp_path)
    assert len(data.splits["train"]) == 2
    assert "all pictures are in test alone, so they are split anew" in data.notes


def test_runs_holes_parts_and_crowds(tmp_path):
    text = four(tmp_path, CocoFile({5: "car", 2: "road"}))
    ring = [0, 0, 8, 0, 8, 8, 0, 8, 0, 0, 2, 2, 2, 6, 6, 6, 6, 2, 2, 2]
    segmentations = {
        "runs": {"counts": SQUARE_RUNS, "size": [16, 20]},
        "letters": {"counts": "S1500" + "000000" * 2 + "0_5", "size": [16, 20]},
        "parts": [flat(SQUARE), [12, 10, 14, 10, 14, 12, 12, 12]],
        "ring": [ring],
    }
    segmentations["letters"]["counts"] = letters(SQUARE_RUNS)
    for i, (name, segmentation) in enumerate(segmentations.items()):
        exports.save_picture(tmp_path / "images" / f"{name}.jpg", 200 + i)
        text.image(f"{name}.jpg", 200 + i)
        text.add(200 + i, 5, segmentation, crowd=int(name == "runs"))
    exports.write_json(tmp_path / "result.json", text.content)
    data = read(tmp_path)
    square = np.zeros((16, 20), np.uint8)
    square[3:8, 2:9] = 2
    assert np.array_equal(ids_of(data, "runs"), square)
    assert np.array_equal(ids_of(data, "letters"), square)
    square[10:12, 12:14] = 2
    assert np.array_equal(ids_of(data, "parts"), square)
    assert ids_of(data, "ring")[4, 4] == 0 and (ids_of(data, "ring") == 2).sum() == 48


def letters(counts: list[int]) -> str:
    """Run lengths as COCO writes them, worked out anew."""
    text = ""
    for i, count in enumerate(counts):
        number = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            bits = number & 31
            number >>= 5
            more = number != (-1 if bits & 16 else 0)
            text += chr(48 + bits + 32 * more)
    assert decode_counts(text) == counts
    return text


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_whole_pictures_are_as_pycocotools_draws_them(tmp_path):
    """Through the JSON, the drawing, the cache and the table; with its own reader of the JSON."""
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    from pycocotools.coco import COCO

    rng = np.random.default_rng(0)
    text = CocoFile({11: "a", 4: "b", 30: "c"})
    for i in range(4):
        exports.save_picture(tmp_path / "images" / f"p{i}.png", i, (61, 47))
        text.image(f"p{i}.png", i * 10, (61, 47))
        for _ in range(9):
            parts = [(rng.random((5, 2)) * (61, 47)).ravel().tolist() for _ in range(2)]
            text.add(i * 10, int(rng.choice([11, 4, 30])), parts)
        runs = {"counts": letters([500, 300, 47 * 61 - 800]), "size": [47, 61]}
        text.add(i * 10, 4, runs, crowd=1)
    path = exports.write_json(tmp_path / "result.json", text.content)
    data, theirs = read(tmp_path), COCO(str(path))
    assert data.table.names == ["background", "b", "a", "c"]
    for i in range(4):
        expected = np.zeros((47, 61), np.uint8)
        for one in theirs.loadAnns(theirs.getAnnIds(imgIds=[i * 10])):
            expected[theirs.annToMask(one) > 0] = [4, 11, 30].index(one["category_id"]) + 1
        assert np.array_equal(ids_of(data, f"p{i}"), expected)


def test_boxes_are_no_masks_and_pictures_without_a_shape_are_background(tmp_path):
    text = four(tmp_path, CocoFile({5: "car", 2: "road"}))
    exports.save_picture(tmp_path / "images" / "e.jpg", 50)
    text.image("e.jpg", 50)
    text.add(50, 5, [])
    path = exports.write_json(tmp_path / "result.json", text.content)
    data = read(tmp_path)
    assert "1 box(es) left out: no mask can be made of a box without an outline" in data.notes
    assert "1 picture(s) have no shape, only background: e.jpg" in data.notes
    assert not ids_of(data, "e").any()
    for one in text.content["annotations"]:
        one["segmentation"] = []
    exports.write_json(path, text.content)
    said = refused(tmp_path)
    assert "there is nothing to tell apart" in said and "9 box(es) left out" in said


def test_a_category_called_background_is_what_no_shape_covers(tmp_path):
    text = four(tmp_path, CocoFile({5: "car", 2: "Background"}))
    exports.write_json(tmp_path / "result.json", text.content)
    data = read(tmp_path)
    assert data.table.names == ["background", "car"]
    assert ids_of(data, "a")[2, 15] == 0


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    text = four(tmp_path, CocoFile({5: "car", 2: "road"}))
    text.image("gone.jpg", 51)
    text.add(3, 77, [flat(SQUARE)])
    text.add(99, 5, [flat(SQUARE)])
    text.add(7, 5, [[1, 1, 4, 4]])
    text.add(7, 5, {"counts": [3], "size": [16, 20]})
    exports.save_picture(tmp_path / "images" / "c.jpg", 8, turn=6)
    exports.write_json(tmp_path / "result.json", text.content)
    exports.write_json(tmp_path / "torn.json", {"images": [{}], "categories": [], "annotations": 1})
    (tmp_path / "cut.json").write_text('{"images": [')
    said = refused(tmp_path)
    assert "names the picture gone.jpg, which is not in " in said
    assert "result.json names category 77, which is not in the JSON" in said
    assert "result.json names image 99, which is not in the JSON" in said
    assert "shape 3 (car) on " in said and "a polygon of 2 point(s)" in said
    assert "shape 4 (car) on " in said and "runs that add up to 3, not to 20×16" in said
    assert "before its EXIF note turns it" in said
    assert "torn.json can't be understood as COCO's (KeyError: 'id')" in said
    assert "cut.json can't be read as JSON" in said


def test_a_picture_in_two_files_is_named(tmp_path):
    text = four(tmp_path, CocoFile({5: "car", 2: "road"}))
    for name in ("one.json", "two.json"):
        exports.write_json(tmp_path / name, text.content)
    said = refused(tmp_path)
    assert "4 pictures are labelled twice: images/a.jpg (one.json, two.json)" in said
    assert SIZE == (20, 16)


# ---- as converters write them ----


def test_ids_as_texts_sizes_as_texts_and_other_forms_of_outlines(tmp_path):
    text = four(tmp_path, CocoFile({10: "car", 2: "road"}))
    for one in text.content["annotations"]:
        one["category_id"] = "10" if one["category_id"] == 5 else 2
        one["image_id"] = str(one["image_id"])
    for one in text.content["images"]:
        one["width"] = str(one["width"])
    forms = [flat(SQUARE), [{"counts": SQUARE_RUNS, "size": SIZE[::-1]}], [flat(SQUARE)], [[]]]
    for one, form in zip(text.content["annotations"][::2], forms):
        one["segmentation"] = form
    exports.write_json(tmp_path / "result.json", text.content)
    data = read(tmp_path)
    assert data.table.names == ["background", "road", "car"]
    assert any(note.startswith("1 box(es) left out") for note in data.notes)
    assert [(ids_of(data, name) == 2).sum() for name in "abcd"] == [35, 35, 35, 0]


def test_two_categories_of_one_id_are_told(tmp_path):
    text = four(tmp_path, CocoFile({5: "car", 2: "road"}))
    text.content["categories"].append({"id": 5, "name": "bird"})
    exports.write_json(tmp_path / "result.json", text.content)
    assert "two categories have the same id" in refused(tmp_path)


def test_a_test_set_without_annotations_is_left_out(tmp_path):
    exports.write_json(
        tmp_path / "train.json", four(tmp_path, CocoFile({5: "car", 2: "road"})).content
    )
    exports.write_json(tmp_path / "test.json", {"images": [], "categories": []})
    assert "1 JSON file(s) that hold no masks of COCO's left out: test.json" in read(tmp_path).notes


def test_a_picture_is_not_taken_from_another_named_folder(tmp_path):
    text = four(tmp_path, CocoFile({5: "car", 2: "road"}), "images/cam1")
    for one in text.content["images"]:
        one["file_name"] = f"cam1/{one['file_name']}"
    exports.write_json(tmp_path / "result.json", text.content)
    assert len(read(tmp_path).pairs) == 4
    (tmp_path / "images" / "cam2").mkdir()
    lost = tmp_path / "images" / "cam1" / "b.jpg"
    lost.rename(tmp_path / "images" / "cam2" / "b.jpg")
    assert "names the picture cam1/b.jpg, which is not in" in refused(tmp_path)
    for one in "acd":
        (tmp_path / "images" / "cam1" / f"{one}.jpg").rename(
            tmp_path / "images" / "cam2" / f"{one}.jpg"
        )
    (tmp_path / "images" / "cam1").rmdir()
    notes = read(tmp_path).notes
    said = "4 picture(s) lie in other folders than the labels say; see that they are the same: cam1"
    assert any(note.startswith(said) for note in notes)


def test_a_picture_of_another_splits_folder_is_told(tmp_path):
    text = four(tmp_path, CocoFile({5: "car", 2: "road"}), "val")
    exports.write_json(tmp_path / "train.json", text.content)
    said = refused(tmp_path)
    assert "4 pictures lie in another split's folder than their JSON says" in said


def test_names_that_differ_by_case_alone_are_the_same_picture(tmp_path):
    text = four(tmp_path, CocoFile({5: "car", 2: "road"}))
    for one in text.content["images"]:
        one["file_name"] = one["file_name"].upper()
    exports.write_json(tmp_path / "result.json", text.content)
    assert len(read(tmp_path).pairs) == 4


def test_texts_in_a_folder_called_masks_and_a_table_that_is_not_read(tmp_path):
    text = four(tmp_path, CocoFile({5: "car", 2: "road"}))
    exports.write_json(tmp_path / "masks" / "result.json", text.content)
    (tmp_path / "classes.csv").write_text("id,name,red,green,blue\n0,car,0,0,0\n1,road,1,1,1\n")
    notes = read(tmp_path).notes
    assert "classes.csv is not read here: the classes are those of the labels" in notes
