"""Masks are drawn once, into the cache, whole or not at all; what is no data set is told so."""

import multiprocessing
import os
import shutil
import time
from pathlib import Path

from toolbox import cache
from toolbox.errors import InputError
from toolbox.sources import drawn, open_source
from toolbox.sources.folder import Folder

import exports
import numpy as np
import pytest
from exports import CORNER, SQUARE, labelme, shape
from PIL import Image

import dataset
from dataset import SegmentationDataset, prepare


@pytest.fixture
def folder(tmp_path):
    for name in "abcd":
        labelme(tmp_path / "mine" / f"{name}.png", [shape("x", SQUARE), shape("y", CORNER)])
    return tmp_path / "mine"


@pytest.fixture
def count_drawn(monkeypatch):
    """Names of the pictures whose masks were drawn."""
    names, draw = [], drawn.draw_mask

    def counting(sketch, ids):
        names.append(sketch.image.name)
        return draw(sketch, ids)

    monkeypatch.setattr(drawn, "draw_mask", counting)
    return names


def masks() -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in cache.CACHE.glob("mine-drawn-*/*")}


def test_unchanged_files_are_drawn_and_read_once(folder, count_drawn, monkeypatch):
    first = prepare(str(folder), "", (16, 16))
    assert sorted(count_drawn) == ["a.png", "b.png", "c.png", "d.png"]
    before = masks()
    monkeypatch.setattr(cache, "read_all", lambda *_: pytest.fail("all was read again"))
    second = prepare(str(folder), "", (16, 16))
    assert len(count_drawn) == 4 and masks() == before and second.cache == first.cache


def test_a_changed_text_or_picture_is_drawn_anew_and_no_other(folder, count_drawn):
    first = prepare(str(folder), "", (16, 16))
    count_drawn.clear()
    labelme(folder / "b.png", [shape("x", SQUARE[1:]), shape("y", CORNER)])
    second = prepare(str(folder), "", (16, 16))
    assert count_drawn == ["b.png"]
    assert not np.array_equal(first.source.read_values(first.pairs[1].mask), second.read(1)[1])
    exports.save_picture(folder / "c.png", 99)
    prepare(str(folder), "", (16, 16))
    assert count_drawn == ["b.png", "c.png"]
    labelme(folder / "a.png", [shape("new", SQUARE), shape("y", CORNER)])  # other ids for all
    prepare(str(folder), "", (16, 16))
    assert len(count_drawn) == 6


def test_another_version_of_the_drawing_draws_all_anew(folder, count_drawn, monkeypatch):
    prepare(str(folder), "", (16, 16))
    monkeypatch.setattr(drawn, "VERSION", drawn.VERSION + 1)
    prepare(str(folder), "", (16, 16))
    assert len(count_drawn) == 8


def test_outdated_masks_go_after_a_week_as_a_run_may_still_be_judged_by_them(folder):
    prepare(str(folder), "", (16, 16))
    before = masks()
    labelme(folder / "b.png", [shape("x", SQUARE[1:]), shape("y", CORNER)])
    prepare(str(folder), "", (16, 16))
    assert masks().keys() > before.keys() and len(masks()) == 5
    outdated = next(cache.CACHE.glob("mine-drawn-*")) / next(iter(sorted(before)[1:2]))
    long_ago = time.time() - drawn.WEEK - 10
    os.utime(outdated, (long_ago, long_ago))
    torn = outdated.with_name(".b.png.123.tmp")
    torn.write_bytes(b"")
    os.utime(torn, (long_ago, long_ago))
    prepare(str(folder), "", (16, 16))
    assert len(masks()) == 4 and not outdated.exists() and not torn.exists()


def test_a_kill_in_the_middle_leaves_nothing_half(folder, count_drawn, monkeypatch):
    save = Image.Image.save

    def killed(picture, file, *options, **more):
        save(picture, file, *options, **more)
        if len(count_drawn) > 2:
            file.truncate(20)
            raise KeyboardInterrupt

    monkeypatch.setattr("toolbox.sources.drawn.all_cores", lambda: 1)
    with monkeypatch.context() as patched:
        patched.setattr(Image.Image, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            prepare(str(folder), "", (16, 16))
    assert len(masks()) == 2
    count_drawn.clear()
    data = prepare(str(folder), "", (16, 16))
    assert sorted(count_drawn) == ["c.png", "d.png"] and len(data.pairs) == 4


def prepare_there(place: Path, folder: Path, results) -> None:
    cache.CACHE = place
    results.put(prepare(str(folder), "", (16, 16)).fingerprint())


def test_two_processes_at_once_do_each_other_no_harm(folder):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    arguments = (cache.CACHE, folder, results)
    both = [context.Process(target=prepare_there, args=arguments) for _ in range(2)]
    for process in both:
        process.start()
    found = {results.get(timeout=60) for _ in both}
    for process in both:
        process.join()
    assert found == {prepare(str(folder), "", (16, 16)).fingerprint()} and len(masks()) == 4


def test_masks_come_back_where_the_cache_was_deleted_meanwhile(folder):
    data = prepare(str(folder), "", (16, 16), cache=False)
    split = SegmentationDataset(data, "train")
    before = split.full_mask(0)
    shutil.rmtree(cache.CACHE)
    assert np.array_equal(split.full_mask(0), before) and before.any()


def test_a_full_disk_ends_in_a_sentence(folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match="can't be written .No space left on device"):
        prepare(str(folder), "", (16, 16))
    assert not masks()


def test_a_picture_that_cannot_be_drawn_is_named_each_time_and_the_others_are_kept(
    folder, count_drawn
):
    labelme(folder / "b.png", [shape("x", SQUARE[:2])])
    for _ in range(2):
        with pytest.raises(InputError, match="1 thing.s. to put right in .* 3 pairs were found"):
            prepare(str(folder), "", (16, 16))
    assert len(count_drawn) == 5


def test_the_number_of_classes_is_known_without_training(folder):
    source = open_source(str(folder), "")
    assert source.table().names == ["background", "x", "y"]
    (folder / "a.json").write_text("{")
    for name in "bcd":
        (folder / f"{name}.json").write_text('{"shapes": 1, "imagePath": "a.png"}')
    with pytest.raises(InputError, match="4 JSON|can't be read as JSON"):
        open_source(str(folder), "").table()


# ---- what is taken for what ----


def test_images_and_masks_stay_a_folder_of_ones_own_whatever_lies_beside(folder):
    (folder / "images").mkdir()
    (folder / "masks").mkdir()
    (folder / "masks" / "notes.txt").write_text("texts alone are no masks")
    assert type(open_source(str(folder), "")) is not Folder
    exports.save_picture(folder / "masks" / "a.png")
    assert type(open_source(str(folder), "")) is Folder


def test_a_folder_that_is_none_of_all_is_told_what_was_looked_for(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg", "f.jpg", "g.jpg"):
        exports.save_picture(tmp_path / name)
    (tmp_path / "settings.json").write_text("{}")
    with pytest.raises(InputError) as caught:
        dataset.prepare(str(tmp_path), "", (16, 16))
    said = str(caught.value)
    assert "is no data set that can be read; it was looked for\n  images/ and masks/" in said
    for tool in ("CVAT: labelmap.txt", "YOLO: data.yaml", "labelme: a JSON", "COCO: a JSON"):
        assert tool in said
    assert "found: a.jpg, b.jpg, c.jpg, d.jpg, e.jpg, f.jpg and 2 more." in said


@pytest.mark.parametrize("control", ["tag", "label"])
def test_label_studios_brushes_and_supervisely_are_named(tmp_path, control):
    """The name that a brush has in Label Studio's own settings is the user's."""
    brushed = tmp_path / "brushes" / f"task-1-annotation-2-by-3-{control}-Airplane-0.png"
    exports.save_picture(brushed)
    with pytest.raises(InputError, match="one label of one picture, as Label Studio exports"):
        open_source(str(brushed.parent), "")
    own = tmp_path / "own"
    exports.save_picture(own / "images" / "plane.png")
    exports.save_picture(own / "masks" / brushed.name)
    with pytest.raises(InputError, match="as Label Studio exports brushes: make one mask"):
        prepare(str(own), "", (16, 16))
    (tmp_path / "supervisely" / "ds0" / "ann").mkdir(parents=True)
    with pytest.raises(InputError, match="ann/ is Supervisely's: export to COCO there"):
        open_source(str(tmp_path / "supervisely"), "")


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("result.json", '[{"original_width": 160}]', "Label Studio's own: export COCO or YOLO"),
        ("annotations/a.json", '{"dm_format_version": "1.0"}', "Datumaro's: if CVAT made them"),
        ("via.json", '{"a.jpg9": {"regions": [{"shape_attributes": {}}]}}', "VIA's: export COCO"),
        ("a.geojson", '{"type": "FeatureCollection"}', "GeoJSON: export masks as PNG"),
        ("a.xml", "<annotation><object><bndbox>", "Pascal VOC's, of boxes: no mask can be made"),
        ("a.xml", "<annotation><object><polygon>", "LabelMe's of old, or Pascal VOC's: if CVAT"),
        ("label_colors.txt", "1 2 3 car", "label_colors.txt is CamVid's, or CVAT's for CamVid"),
    ],
)
def test_what_other_tools_write_is_named_with_what_to_export(tmp_path, name, content, sentence):
    exports.save_picture(tmp_path / "images" / "a.jpg")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=sentence):
        open_source(str(tmp_path), "")
