"""Each reader on a tiny data set in its owners' exact layout: ids come out right for every class,
and ignore stays ignore."""

from toolbox.errors import InputError
from toolbox.masks import IGNORE
from toolbox.sources import open_source
from toolbox.sources.voc import VOC
from toolbox.splits import fold_splits

import layouts
import numpy as np
import pytest
from layouts import LABELS, LOOKS
from PIL import Image

from dataset import prepare, read_ids


def ids_by_value(data, row: int, values: np.ndarray) -> dict[int, int]:
    """Which id each of a mask's values became; every pixel of a value has the same."""
    ids = data.read(row)[1]
    pairs = {(int(value), int(i)) for value, i in zip(values.ravel(), ids.ravel())}
    assert len(pairs) == len({value for value, _ in pairs})
    return dict(pairs)


def values_of(data, row: int, values=range(35)) -> np.ndarray:
    """The values that the fixture painted, read off the picture's looks."""
    image = data.read(row)[0].astype(int)
    looks = LOOKS[list(values)].astype(int)
    return np.array(list(values))[np.abs(image[..., None, :] - looks).sum(-1).argmin(-1)]


def expected_ids(kind: str, by_color: bool) -> dict[int, int]:
    """Worked out from SYSTEM's words: 19 by train id; 34 by id without void; 24 in the tutorial's
    order by colour."""
    order = (
        "void,building,pole,sky,vegetation,traffic sign,fence,traffic light,person,dynamic,car,"
        "road,sidewalk,parking,ground,terrain,bicycle,rider,wall,bus,bridge,motorcycle,train,truck"
    ).split(",")
    expected = {}
    for label in LABELS:
        same_color = {"polegroup": "pole", "license plate": "car"}.get(label.name, label.name)
        if kind == "cityscapes19":
            named = next(
                other for other in LABELS if other.name == (same_color if by_color else label.name)
            )
            i = named.train_id if 0 <= named.train_id < 255 else IGNORE
        elif kind == "cityscapes24":
            i = order.index(same_color) if same_color in order[1:] else IGNORE
        else:
            i = label.id if label.id >= 7 else IGNORE
        expected[label.id % 35] = i
    return expected


@pytest.mark.parametrize(
    "name, kinds, kind, by_color",
    [
        ("cityscapes", ("labelIds", "color"), "cityscapes19", False),
        ("cityscapes", ("color",), "cityscapes19", True),
        ("cityscapes24", ("labelIds", "color"), "cityscapes24", True),
        ("cityscapes34", ("labelIds",), "cityscapes34", False),
    ],
)
def test_cityscapes_ids_come_out_right_for_each_class(tmp_path, name, kinds, kind, by_color):
    layouts.make_cityscapes(tmp_path / "Cityscapes", kinds)
    data = prepare(name, str(tmp_path), (48, 48))  # found in data_dir, whatever its case
    assert {split: len(rows) for split, rows in data.splits.items()} == {"train": 3, "val": 3}
    assert (
        len(data.table.names) == {"cityscapes19": 19, "cityscapes24": 24, "cityscapes34": 34}[kind]
    )
    assert any("test is left out" in note for note in data.notes)
    for row in range(6):
        assert ids_by_value(data, row, values_of(data, row)) == expected_ids(kind, by_color)


def test_cityscapes24_by_label_ids_is_the_same_as_by_colour(tmp_path):
    layouts.make_cityscapes(tmp_path / "colors", ("color",))
    layouts.make_cityscapes(tmp_path / "ids", ("labelIds",))
    by_color = prepare("cityscapes24", str(tmp_path / "colors"), (48, 48))
    by_id = prepare("cityscapes24", str(tmp_path / "ids"), (48, 48))
    for row in range(6):
        differ = by_color.read(row)[1] != by_id.read(row)[1]
        # A licence plate has the colour of its car, but no id of its own on disk.
        assert set(values_of(by_color, row)[differ]) == {34}
    assert by_color.table.names[0] == "void"
    colors = dict(zip(by_color.table.names, by_color.table.colors))
    assert colors["bicycle"] == (119, 11, 32)


def test_cityscapes34_needs_label_ids(tmp_path):
    layouts.make_cityscapes(tmp_path, ("color",), count=1)
    with pytest.raises(InputError, match="has no mask .*gtFine_labelIds.png"):
        prepare("cityscapes34", str(tmp_path), (48, 48))


@pytest.mark.parametrize("palette", [False, True])
def test_gta5_reads_colours_and_palettes_and_leaves_out_the_two_known_pictures(tmp_path, palette):
    layouts.make_gta5(tmp_path, palette=palette)
    for stem in ("15188", "17705"):
        layouts.save(tmp_path / "images" / f"{stem}.png", layouts.grid([7], 0)[0])
        layouts.save(tmp_path / "labels" / f"{stem}.png", np.zeros((5, 5, 3), np.uint8))
    data = prepare("gta5", str(tmp_path), (48, 48))
    assert len(data.pairs) == 7
    assert {split: len(rows) for split, rows in data.splits.items()} == dict(train=5, val=1, test=1)
    assert sum("left out" in note for note in data.notes) == 2
    expected = {**expected_ids("cityscapes19", by_color=not palette)}
    for row in range(7):
        assert ids_by_value(data, row, values_of(data, row)) == expected


@pytest.mark.parametrize("side_by_side", [False, True])
def test_carvana_gifs_give_0_and_1_and_a_cars_views_stay_together(tmp_path, side_by_side):
    layouts.make_carvana(tmp_path, side_by_side, cars=8, views=4)
    with Image.open(next(tmp_path.rglob("*.gif"))) as mask:
        assert mask.format == "GIF" and mask.mode == "P"
        assert set(np.unique(np.array(mask.convert("L")))) == {0, 255}
    (tmp_path / "metadata.csv").write_text("id,year\n")
    data = prepare("carvana", str(tmp_path), (48, 48))
    assert len(data.pairs) == 32 and data.table.names == ["background", "car"]
    for row in (0, 9, 31):
        assert ids_by_value(data, row, values_of(data, row, (0, 1))) == {0: 0, 1: 1}
    cars = {
        split: {data.pairs[row].image.name.split("_")[0] for row in rows}
        for split, rows in data.splits.items()
    }
    assert sorted(map(len, cars.values())) == [1, 1, 6] and len(set.union(*cars.values())) == 8


@pytest.mark.parametrize(
    "year, splits", [("2007", ("train", "val", "test")), ("2012", ("train", "val"))]
)
def test_voc_palettes_give_ids_and_the_owners_lists_the_splits(tmp_path, year, splits):
    layouts.make_voc(tmp_path, year, splits)
    data = prepare(f"voc{year}", str(tmp_path), (48, 48))
    assert {split: len(rows) for split, rows in data.splits.items()} == dict.fromkeys(splits, 3)
    assert len(data.table.names) == 21
    assert data.table.names[:2] == ["background", "aeroplane"]
    assert data.table.names[-1] == "tvmonitor"
    assert data.table.colors == layouts.VOC_PALETTE
    for row in range(len(data.pairs)):
        values = values_of(data, row, [*range(21), 255])
        assert ids_by_value(data, row, values) == {**{i: i for i in range(21)}, 255: IGNORE}


def test_voc2007_without_its_test_archive_says_so_and_a_missing_mask_is_named(tmp_path):
    layouts.make_voc(tmp_path, "2007", ("train", "val"))
    assert any(
        "test is left out" in note for note in prepare("voc2007", str(tmp_path), (48, 48)).notes
    )
    next((tmp_path / "VOCdevkit" / "VOC2007" / "SegmentationClass").iterdir()).unlink()
    with pytest.raises(InputError, match="is not there, but the owners' lists name it"):
        prepare("voc2007", str(tmp_path), (48, 48))


def test_voc_is_asked_from_its_owners_where_it_is_missing_and_a_failure_is_one_sentence(
    tmp_path, monkeypatch
):
    import torchvision.datasets

    asked = []

    def download(root, year, image_set, download=False):
        asked.append((year, image_set, download))
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets, "VOCSegmentation", download)
    with pytest.raises(
        InputError,
        match="VOC2012 is not there and can't be downloaded .no network.; "
        "unpack its owners' archive in",
    ):
        VOC(tmp_path).find_pairs()
    assert asked == [("2012", "train", True)]


def test_voc_is_not_unpacked_into_a_folder_of_other_things(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(VOC, "download", lambda self, folder: asked.append(self.root))

    def try_in(folder) -> str:
        try:
            VOC(folder).find_pairs()
        except InputError as problem:
            return str(problem)
        return ""

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "holiday.jpg").write_bytes(b"")
    said = try_in(mine)
    assert "mine holds no VOCdevkit/VOC2012, but holiday.jpg and so on; set data_dir to the" in said
    assert not asked
    (tmp_path / "file").write_bytes(b"")
    assert "is no folder" in try_in(tmp_path / "file") and not asked
    for name in ("VOCtrainval_11-May-2012.tar", "VOCdevkit", ".DS_Store"):
        remains = tmp_path / name / "root"
        (remains / name).mkdir(parents=True)
        try_in(remains)
    (tmp_path / "Dataset" / "streets").mkdir(parents=True)
    (tmp_path / "Dataset" / "make_streets.py").write_text("")
    try_in(tmp_path / "Dataset")
    try_in(tmp_path / "nowhere")
    assert len(asked) == 5


def test_the_class_tables_of_published_data_sets_need_no_files(tmp_path):
    expected = dict(cityscapes=19, cityscapes24=24, cityscapes34=34, carvana=2)
    expected |= dict(voc2007=21, voc2012=21, gta5=19, camvid=11)
    for name, count in expected.items():
        assert len(open_source(name, str(tmp_path)).table().names) == count
    assert not list(tmp_path.iterdir())


def test_camvid_reads_the_segnet_layout_and_ignores_void(tmp_path):
    layouts.make_camvid(tmp_path)
    data = prepare("camvid", str(tmp_path), (48, 48))
    assert {split: len(rows) for split, rows in data.splits.items()} == dict(train=3, val=3, test=3)
    names = "sky building pole road pavement tree sign fence car pedestrian bicyclist"
    assert data.table.names == names.split()
    for row in range(9):
        values = values_of(data, row, range(12))
        assert ids_by_value(data, row, values) == {**{i: i for i in range(11)}, 11: IGNORE}


def test_camvid_knows_the_film_of_each_picture_so_that_folds_leave_one_out(tmp_path):
    root = layouts.make_camvid(tmp_path / "camvid", ("train", "val"))
    for path in sorted(root.rglob("*_2.png")):
        path.rename(path.with_name(f"0006R0_{path.name}"))
    source = open_source("camvid", str(tmp_path))
    films = [pair.group for pair in source.pairs]
    assert sorted(set(films)) == ["0006R0", "Seq"]
    for splits in fold_splits(source.pairs, range(6), folds=2, seed=0):
        judged = {films[row] for row in splits["fold"]}
        assert len(judged) == 1 and not judged & {films[row] for row in splits["train"]}
    layouts.save(root / "train" / "alone.png", layouts.grid([1], 0)[0])
    layouts.save(root / "trainannot" / "alone.png", layouts.grid([1], 0)[1])
    assert "" in {pair.group for pair in open_source("camvid", str(tmp_path)).pairs}


def test_camvid_without_test_masks_is_judged_on_val_and_says_so(tmp_path):
    layouts.make_camvid(tmp_path, ("train", "val"))
    layouts.save(tmp_path / "test" / "a.png", layouts.grid([1], 0)[0])
    data = prepare("camvid", str(tmp_path), (48, 48))
    assert list(data.splits) == ["train", "val"] and any(
        "test is left out: there are no masks" in note for note in data.notes
    )


@pytest.mark.parametrize(
    "name, make",
    [
        ("camvid", layouts.make_camvid),
        ("carvana", layouts.make_carvana),
        ("gta5", layouts.make_gta5),
        ("cityscapes", layouts.make_cityscapes),
        ("voc2012", lambda root: layouts.make_voc(root, "2012")),
    ],
)
def test_a_value_that_no_table_knows_is_an_error_in_every_data_set(tmp_path, name, make):
    make(tmp_path)
    mask = open_source(name, str(tmp_path)).pairs[0].mask
    layouts.save(
        mask,
        np.resize(np.array([0, 1, 99], np.uint8), (48, 48)),
        [(i, 255 - i, 0) for i in range(100)],
    )
    with Image.open(mask) as picture:  # GIFs leave out the palette's unused colours
        unknown = int(np.array(picture).max())
    assert unknown == (2 if name == "carvana" else 99)
    with pytest.raises(InputError, match=rf"holds {unknown} \("):
        read_ids(mask, open_source(name, str(tmp_path)).table().meaning)
    with pytest.raises(InputError, match="1 thing.s. to put right"):
        prepare(name, str(tmp_path), (48, 48))
