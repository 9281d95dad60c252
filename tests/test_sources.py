"""A folder of one's own: which files are pairs, and what its masks' values mean."""

import json

from toolbox.errors import InputError
from toolbox.masks import IGNORE
from toolbox.prepared import overview
from toolbox.sources import SOURCES
from toolbox.sources.folder import Folder

import numpy as np
import pytest
from conftest import draw_squares
from PIL import Image

from dataset import SegmentationDataset, prepare

COLORS = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)


def test_row_20_pairs_go_by_name_and_all_orphans_and_duplicates_are_listed_at_once(tmp_path):
    folder = draw_squares(tmp_path / "own", 4)
    (folder / "masks" / "p1.png").rename(folder / "masks" / "p9.png")
    Image.fromarray(COLORS).save(folder / "images" / "p2.jpg")
    (folder / "images" / ".DS_Store").write_bytes(b"")
    (folder / "masks" / "p3.png").rename(folder / "masks" / "p3_mask.png")
    with pytest.raises(InputError) as caught:
        prepare(str(folder), "", (16, 16))
    sentences = str(caught.value)
    assert (
        "p1.png has no mask" in sentences
        and "p9.png has no image" in sentences
        and "have the same stem" in sentences
    )
    assert "p3" not in sentences and "DS_Store" not in sentences


def test_row_20_orphans_are_listed_without_a_class_table_too(tmp_path):
    folder = draw_squares(tmp_path / "own", 4, table=False)
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.resize(np.array([0, 255], np.uint8), (16, 16))).save(path)
    (folder / "masks" / "p1.png").unlink()
    with pytest.raises(InputError, match="p1.png has no mask"):
        prepare(str(folder), "", (16, 16))


def test_row_20_two_masks_of_one_picture_are_named(tmp_path):
    folder = draw_squares(tmp_path / "own", 4)
    with Image.open(folder / "masks" / "p1.png") as mask:
        mask.save(folder / "masks" / "p1_mask.png")
    with pytest.raises(InputError, match="p1_mask.png and p1.png are masks of one picture"):
        prepare(str(folder), "", (16, 16))


def test_a_folder_named_like_a_picture_is_named(tmp_path):
    folder = draw_squares(tmp_path / "own", 4)
    (folder / "images" / "p9.png").mkdir()
    with pytest.raises(InputError, match="p9.png is a folder where a picture was expected"):
        prepare(str(folder), "", (16, 16))


@pytest.mark.parametrize("layout", ["images/{split}", "{split}/images"])
def test_train_val_and_test_folders_are_respected_and_one_without_masks_is_left_out(
    tmp_path, layout
):
    flat = draw_squares(tmp_path / "flat", 9)
    for i, split in enumerate(["train"] * 5 + ["val"] * 2 + ["test"] * 2):
        for name in ("images", "masks"):
            folder = tmp_path / "own" / layout.format(split=split).replace("images", name)
            folder.mkdir(parents=True, exist_ok=True)
            (flat / name / f"p{i}.png").rename(folder / f"p{i}.png")
    (flat / "classes.csv").rename(tmp_path / "own" / "classes.csv")
    data = prepare(str(tmp_path / "own"), "", (16, 16))
    files = {split: data.files(rows) for split, rows in data.splits.items()}
    assert files["train"] == ["p0.png", "p1.png", "p2.png", "p3.png", "p4.png"]
    assert files["val"] == ["p5.png", "p6.png"] and files["test"] == ["p7.png", "p8.png"]
    masks = tmp_path / "own" / layout.format(split="test").replace("images", "masks")
    for path in masks.iterdir():
        path.unlink()
    data = prepare(str(tmp_path / "own"), "", (16, 16))
    assert list(data.splits) == ["train", "val"]
    assert any(
        "is left out: there are no masks" in note and "test" in note for note in data.notes
    ) and "left out" in overview(data)


def test_loose_pictures_beside_split_folders_are_named(tmp_path):
    folder = draw_squares(tmp_path / "own", 2)
    for name in ("images", "masks"):
        (folder / name / "train").mkdir()
        (folder / name / "p0.png").rename(folder / name / "train" / "p0.png")
    with pytest.raises(InputError, match="p1.png lies beside the folders of the splits"):
        prepare(str(folder), "", (16, 16))


def test_folders_that_are_no_split_and_masks_without_pictures_are_named(tmp_path):
    for name in ("train", "extra"):
        draw_squares(tmp_path / "own" / name, 4)
    (tmp_path / "own" / "extra" / "classes.csv").rename(tmp_path / "own" / "classes.csv")
    (tmp_path / "own" / "masks" / "val").mkdir(parents=True)
    (tmp_path / "own" / "masks" / "val" / "a.png").write_bytes(b"")
    (tmp_path / "own" / "unlabelled" / "images").mkdir(parents=True)
    with pytest.raises(InputError) as problem:
        prepare(str(tmp_path / "own"), "", (16, 16))
    said = str(problem.value)
    assert (
        "2 thing(s)" in said
        and "extra is none of train, val, test" in said
        and "val has masks for pictures that are not there" in said
    )


def test_a_data_set_that_is_not_there_is_named(tmp_path):
    with pytest.raises(
        InputError,
        match="'cityscape', neither a folder nor one of streets, cityscapes, cityscapes24",
    ):
        prepare("cityscape", str(tmp_path), (16, 16))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=f"did you mean {tmp_path.as_posix()}/empty"):
        prepare("emptyy", str(tmp_path), (16, 16))
    with pytest.raises(
        InputError, match="looked for\n  images/ and masks/(.|\n)*and found: nothing"
    ):
        prepare(str(tmp_path / "empty"), "", (16, 16))
    with pytest.raises(InputError, match="has no pairs"):
        prepare("cityscapes24", str(tmp_path), (16, 16))


@pytest.mark.parametrize(
    "values, ids",
    [((0, 255), (0, 1)), ((0, 1), (0, 1)), ((38, 75), (0, 1)), ((0, 1, 255), (0, 1, IGNORE))],
)
def test_row_2_two_values_mean_background_and_object(tmp_path, values, ids):
    folder = draw_squares(tmp_path / "own", 3, table=False)
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.resize(np.array(values, np.uint8), (16, 16))).save(path)
    data = prepare(str(folder), "", (16, 16))
    assert data.table.names == ["background", "object"]
    assert f"background is {values[0]}, the object {values[1]}" in data.notes
    assert np.array_equal(data.read(0)[1], np.resize(ids, (16, 16)))


def test_row_3_and_row_5_more_values_ask_for_a_class_table_and_print_one(tmp_path):
    folder = draw_squares(tmp_path / "own", 3, table=False)
    with pytest.raises(InputError) as caught:
        prepare(str(folder), "", (16, 16))
    assert "others need" in str(caught.value) and "id,name,red,green,blue\n0,class0," in str(
        caught.value
    )
    (folder / "classes.csv").write_text(str(caught.value).split("your own:\n")[1])
    assert len(prepare(str(folder), "", (16, 16)).table.names) == 3
    (folder / "classes.csv").unlink()
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).save(path)
    with pytest.raises(InputError, match="saving as JPEG or resizing with smoothing"):
        prepare(str(folder), "", (16, 16))


def test_row_3_a_two_value_mask_saved_as_jpeg_is_recognised(tmp_path):
    folder = draw_squares(tmp_path / "own", 3, table=False)
    for path in list((folder / "masks").iterdir()):
        with Image.open(path) as picture:
            Image.fromarray(((np.array(picture) > 0) * 255).astype(np.uint8)).save(
                path.with_suffix(".jpg"), quality=70
            )
        path.unlink()
    with pytest.raises(InputError, match="saving as JPEG or resizing with smoothing"):
        prepare(str(folder), "", (16, 16))


@pytest.mark.parametrize(
    "values, white", [((0, 38, 75), 3), ((1, 2, 3), IGNORE), ((0, 2, 3), IGNORE)]
)
def test_grey_masks_with_gaps_get_a_table_that_works(tmp_path, values, white):
    folder = draw_squares(tmp_path / "own", 3, table=False)
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.resize(np.array([*values, 255], np.uint8), (16, 16))).save(path)
    with pytest.raises(InputError) as caught:
        prepare(str(folder), "", (16, 16))
    (folder / "classes.csv").write_text(str(caught.value).split("your own:\n")[1])
    data = prepare(str(folder), "", (16, 16))
    assert data.read(0)[1][0, :4].tolist() == [0, 1, 2, white]
    assert len(data.table.names) == (3 if white == IGNORE else 4)


@pytest.mark.parametrize(
    "values, ids", [((0, 1), (0, 1)), ((0, 1, 255), (0, 1, IGNORE)), ((0, 255), (0, 1))]
)
def test_a_black_and_white_table_fits_masks_of_ids_and_of_greys(tmp_path, values, ids):
    folder = draw_squares(tmp_path / "own", 3, table=False)
    (folder / "classes.csv").write_text(
        "id,name,red,green,blue\n0,ground,0,0,0\n1,thing,255,255,255\n"
    )
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.resize(np.array(values, np.uint8), (16, 16))).save(path)
    assert np.array_equal(prepare(str(folder), "", (16, 16)).read(0)[1], np.resize(ids, (16, 16)))


def test_coloured_masks_without_a_table_get_one_to_start_from(tmp_path):
    folder = draw_squares(tmp_path / "own", 3)
    for path in (folder / "masks").iterdir():
        with Image.open(path) as picture:
            colored = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255)], np.uint8)[np.array(picture)]
        Image.fromarray(colored).save(path)
    by_color = prepare(str(folder), "", (16, 16))
    assert set(np.unique(by_color.read(0)[1])) == {0, 1, 2}
    (folder / "classes.csv").unlink()
    with pytest.raises(InputError) as caught:
        prepare(str(folder), "", (16, 16))
    (folder / "classes.csv").write_text(str(caught.value).split("your own:\n")[1])
    assert sorted(prepare(str(folder), "", (16, 16)).table.colors) == [
        (0, 0, 0),
        (0, 0, 255),
        (255, 0, 0),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "id,name\n0,a\n1,b\n",
        "id,name,red,green,blue\n0,a,0,0,0\n2,b,1,1,1\n",
        "id,name,red,green,blue\n0,a,0,0,zero\n1,b,1,1,1\n",
        "id,name,red,green,blue\n0,a,0,0,0\n1,b,256,0,0\n",
        b"id,name,red,green,blue\n0,Stra\xdfe,0,0,0\n1,b,1,1,1\n",
    ],
)
def test_a_wrong_class_table_gets_one_sentence(tmp_path, text):
    folder = draw_squares(tmp_path / "own", 3)
    (folder / "classes.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match="classes.csv"):
        prepare(str(folder), "", (16, 16))


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_row_3_smoothed_masks_are_recognised_beside_a_class_table_too(tmp_path, ending):
    folder = draw_squares(tmp_path / "own", 4, size=(64, 64))
    (folder / "classes.csv").write_text(
        "id,name,red,green,blue\n0,ground,0,0,0\n1,thing,255,255,255\n"
    )
    for path in list((folder / "masks").iterdir()):
        with Image.open(path) as picture:
            smooth = (
                picture.point(lambda value: 255 * (value > 0))
                .resize((80, 80), Image.Resampling.BICUBIC)
                .resize((64, 64), Image.Resampling.BICUBIC)
            )
        path.unlink()
        smooth.save(path.with_suffix(f".{ending}"))
    with pytest.raises(
        InputError, match="p0.*so many come from saving as JPEG or resizing with smoothing"
    ):
        prepare(str(folder), "", (16, 16))


# ---- a source whose masks are no pictures ----


class Arrays(Folder):
    """images/*.png and masks/*.npz, as the example in dataset.py has it."""

    def read_mask(self, path, meaning=None):
        return np.load(path)["mask"]


@pytest.fixture
def arrays(tmp_path, monkeypatch):
    """Squares whose masks are arrays, under a name in SOURCES."""
    folder = draw_squares(tmp_path / "arrays", 12, size=(24, 40))
    for path in list((folder / "masks").iterdir()):
        with Image.open(path) as picture:
            np.savez(path.with_suffix(".npz"), mask=np.array(picture).astype(np.int64))
        path.unlink()
    monkeypatch.setitem(SOURCES, "arrays", Arrays)
    return folder


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("has_table", [True, False])
def test_a_source_of_npz_masks_is_one_class(arrays, tmp_path, cache, has_table):
    if not has_table:
        (arrays / "classes.csv").unlink()
        for path in (arrays / "masks").iterdir():
            np.savez(path, mask=np.load(path)["mask"] > 0)
    data = prepare("arrays", str(tmp_path), (24, 40), cache)
    assert bool(data.cache) == cache and len(data.table.names) == (3 if has_table else 2)
    for row, pair in enumerate(data.pairs):
        assert np.array_equal(data.read(row)[1], np.load(pair.mask)["mask"])
    small = prepare("arrays", str(tmp_path), (16, 16), cache)
    split = SegmentationDataset(small, "val")
    for i, row in enumerate(split.rows):
        expected = np.load(small.pairs[row].mask)["mask"]
        assert split[i][1].shape == (16, 16)
        assert np.array_equal(split.full_mask(i).numpy(), expected)


@pytest.mark.parametrize("cache", [True, False])
def test_a_source_of_npz_masks_is_trained_on_and_judged_at_full_size(
    arrays, run_train, monkeypatch, cache
):
    judged = []
    full_mask = SegmentationDataset.full_mask

    def seen(split, i):
        judged.append(full_mask(split, i).shape)
        return full_mask(split, i)

    monkeypatch.setattr(SegmentationDataset, "full_mask", seen)
    folder = run_train(dataset="arrays", data_dir=str(arrays.parent), run_dir="run", cache=cache)
    report = json.loads((folder / "run" / "report.json").read_text())
    assert report["test"]["mean_iou"] > 0
    assert judged == [(24, 40)] * 12  # every picture of every split


def test_a_wrong_npz_mask_is_named_as_others_are(arrays, tmp_path):
    np.savez(arrays / "masks" / "p0.npz", mask=np.full((24, 40), 7))
    np.savez(arrays / "masks" / "p1.npz", mask=np.zeros((8, 40), int))
    with pytest.raises(InputError) as caught:
        prepare("arrays", str(tmp_path), (16, 16))
    sentences = str(caught.value)
    assert "2 thing(s)" in sentences and "p0.npz holds 7 (960 pixels)" in sentences
    assert "p1.npz is 40×8; a mask has its image's size" in sentences
