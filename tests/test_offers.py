"""Masks without a classes.csv: the table that is offered knows every pixel, and what was smoothed
gets none."""

import io
from pathlib import Path

from toolbox.errors import InputError
from toolbox.masks import IGNORE
from toolbox.tables import read_class_table

import numpy as np
import pytest
from conftest import draw_squares
from PIL import Image

from dataset import prepare, read_ids

COLORS = [(0, 0, 0), (255, 0, 0), (0, 0, 255), (90, 90, 90), (91, 90, 90)]


def areas(count: int, size: int = 16) -> list[np.ndarray]:
    """Three masks of so many classes, each of which has an area in each."""
    return [
        np.roll(np.arange(size * size).reshape(size, size) * count // size**2, i, 0)
        for i in range(3)
    ]


def folder_of(tmp_path, pictures: list[Image.Image], ending: str = "png", **options):
    folder = draw_squares(tmp_path / "own", len(pictures), table=False)
    for i, picture in enumerate(pictures):
        (folder / "masks" / f"p{i}.png").unlink()
        picture.save(folder / "masks" / f"p{i}.{ending}", **options)
    return folder


def refused(folder) -> str:
    with pytest.raises(InputError) as caught:
        prepare(str(folder), "", (16, 16))
    return str(caught.value)


def pasted(folder) -> str:
    """What was said, with the offered table in its place."""
    said = refused(folder)
    (folder / "classes.csv").write_text(said.split("your own:\n")[1])
    return said


def grey(numbers):
    return lambda ids: Image.fromarray(np.array(numbers)[ids])


def rgb(colors):
    return lambda ids: Image.fromarray(np.array(colors, np.uint8)[ids])


def palette(numbers, colors):
    def save(ids):
        picture = Image.fromarray(np.array(numbers, np.uint8)[ids])
        table = np.zeros((256, 3), np.uint8)
        table[numbers] = colors
        picture.putpalette(table.tobytes())
        return picture

    return save


KINDS = {
    "ids": grey(np.arange(4, dtype=np.uint8)),
    "many ids": grey(np.arange(30, dtype=np.uint8)),
    "greys": grey(np.array([0, 128, 255], np.uint8)),
    "four greys": grey(np.array([0, 85, 170, 255], np.uint8)),
    "uneven greys": grey(np.array([0, 38, 75, 255], np.uint8)),
    "gaps": grey(np.array([0, 5, 17], np.uint8)),
    "gaps and white": grey(np.array([0, 5, 17, 255], np.uint8)),
    "from one": grey(np.array([1, 2, 3, 4], np.uint8)),
    "near white": grey(np.array([0, 254, 255], np.uint8)),
    "16 bits": grey(np.array([300, 600, 900], np.uint16)),
    "16 bits and white": grey(np.array([0, 255, 300, 65535], np.uint16)),
    "palette": palette([0, 1, 2], COLORS[:3]),
    "palette with gaps": palette([0, 7, 15, 255], COLORS[:4]),
    "palette of greys": palette([0, 1, 2], [(2, 2, 2), (1, 1, 1), (0, 0, 0)]),
    "palette of one colour": palette([0, 1, 2], [(0, 0, 0)] * 3),
    "palette with twins": palette([0, 1, 2], [(0, 0, 0), (67, 131, 197), (67, 131, 197)]),
    "colours": rgb(COLORS),
    "greys as colours": rgb([(0, 0, 0), (128, 128, 128), (255, 255, 255)]),
}
COUNTS = dict(zip(KINDS, (4, 30, 3, 4, 4, 3, 4, 4, 3, 3, 4, 3, 4, 3, 3, 3, 5, 3)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_that_is_offered_is_accepted_and_every_pixel_has_its_class(tmp_path, kind):
    ids = areas(COUNTS[kind])
    folder = folder_of(tmp_path, [KINDS[kind](one) for one in ids])
    said = pasted(folder)
    data = prepare(str(folder), "", (16, 16))
    assert len(data.table.names) == COUNTS[kind]
    met = set()
    for pair, one in zip(data.pairs, ids):
        read = read_ids(pair.mask, data.table.meaning)
        met |= {*zip(one.ravel().tolist(), read.ravel().tolist())}
    assert len(met) == COUNTS[kind] == len({i for _, i in met}), met
    if kind != "colours":
        assert met == {(i, i) for i in range(COUNTS[kind])} or "white" in kind
    has_value = kind not in ("ids", "many ids", "palette", "colours", "greys as colours")
    has_value = has_value and kind not in ("palette of one colour", "palette with twins")
    assert ("blue,value\n" in said) == has_value


def test_255_beside_ids_is_said_to_be_ignored_and_its_row_makes_an_object_of_it(tmp_path):
    ids = areas(4)
    folder = folder_of(tmp_path, [grey(np.array([0, 1, 2, 255], np.uint8))(one) for one in ids])
    said = pasted(folder)
    assert (
        "255, 25.0% of the pixels, is taken as 'ignore'; if it is an object, add the row 3," in said
    )
    data = prepare(str(folder), "", (16, 16))
    assert data.table.names == ["class0", "class1", "class2"]
    assert np.array_equal(data.read(0)[1], np.array([0, 1, 2, IGNORE])[ids[0]])
    assert any(note.startswith("255, 25.0% of the pixels, is ignored") for note in data.notes)
    row = said.partition("add the row ")[2].partition(". To start")[0]
    with open(folder / "classes.csv", "a") as file:
        file.write(f"\n{row}\n")
    data = prepare(str(folder), "", (16, 16))
    assert np.array_equal(data.read(0)[1], ids[0])
    assert not any("ignore" in note for note in data.notes)


def test_255_among_greys_is_a_class_and_can_be_made_ignore(tmp_path):
    ids = areas(3)
    folder = folder_of(tmp_path, [KINDS["greys"](one) for one in ids])
    said = pasted(folder)
    assert "255 is taken for a class; if it means 'ignore', give its row the id 255" in said
    assert "0,class0,0,0,0,0\n1,class1,128,128,128,128\n2,class2,255,255,255,255" in said
    text = (folder / "classes.csv").read_text()
    (folder / "classes.csv").write_text(text.replace("2,class2", "255,void"))
    data = prepare(str(folder), "", (16, 16))
    assert np.array_equal(data.read(0)[1], np.array([0, 1, IGNORE])[ids[0]])
    assert not any("ignore" in note for note in data.notes)


def test_a_palettes_own_colours_are_offered(tmp_path):
    folder = folder_of(tmp_path, [KINDS["palette with gaps"](one) for one in areas(4)])
    said = refused(folder)
    assert (
        "0,class0,0,0,0,0\n1,class1,255,0,0,7\n2,class2,0,0,255,15\n3,class3,90,90,90,255" in said
    )
    assert "numbers in the masks do not: these stand under value, 7 for the id 1. To start" in said


def test_a_palette_without_gaps_needs_no_word_on_them(tmp_path):
    said = refused(folder_of(tmp_path, [KINDS["palette"](one) for one in areas(3)]))
    assert "blue\n0,class0,0,0,0\n1,class1,255,0,0\n2,class2,0,0,255" in said
    assert "without a gap" not in said


def test_greys_saved_as_numbers_here_and_as_colours_there_are_one(tmp_path):
    ids = areas(2)
    two = np.array([0, 255], np.uint8)
    folder = folder_of(
        tmp_path, [grey(two)(ids[0]), rgb([(0, 0, 0), (255, 255, 255)])(ids[1]), grey(two)(ids[2])]
    )
    data = prepare(str(folder), "", (16, 16))
    assert all(np.array_equal(data.read(i)[1], ids[i]) for i in range(3))
    ids = areas(3)
    greys = [(0, 0, 0), (128, 128, 128), (255, 255, 255)]
    folder = folder_of(tmp_path, [KINDS["greys"](ids[0]), rgb(greys)(ids[1]), rgb(COLORS)(ids[2])])
    pasted(folder)
    data = prepare(str(folder), "", (16, 16))
    assert np.array_equal(data.read(0)[1], ids[0]) and np.array_equal(data.read(1)[1], ids[1])
    assert data.read(2)[1][ids[2] == 0].max() == 0 and len(data.table.names) == 5


def test_a_table_of_greys_fits_masks_of_numbers_beside_masks_of_colours(tmp_path):
    ids = areas(2)
    black_and_white = rgb([(0, 0, 0), (255, 255, 255)])
    two = grey(np.array([0, 255], np.uint8))
    folder = folder_of(tmp_path, [two(ids[0]), black_and_white(ids[1]), two(ids[2])])
    (folder / "classes.csv").write_text("id,name,red,green,blue\n0,no,0,0,0\n1,yes,255,255,255\n")
    data = prepare(str(folder), "", (16, 16))
    assert all(np.array_equal(data.read(i)[1], ids[i]) for i in range(3))


def test_one_value_is_nothing_to_tell_apart(tmp_path):
    for value in (0, 255):
        folder = folder_of(tmp_path, [Image.new("L", (16, 16), value)] * 3)
        said = refused(folder)
        assert f"hold only {value}: there is nothing to tell apart" in said and "red" not in said


def test_palettes_that_number_the_same_colours_otherwise_are_named(tmp_path):
    ids = areas(2)
    one, other = palette([0, 1], COLORS[:2]), palette([1, 0], COLORS[:2])
    folder = folder_of(tmp_path, [one(ids[0]), other(ids[1]), one(ids[2])])
    said = refused(folder)
    assert "number their colours differently: (" in said and "p1.png" in said


def test_numbers_of_single_objects_are_no_classes(tmp_path):
    many = np.arange(400, dtype=np.uint16).repeat(4)
    picture = Image.fromarray(np.kron(many[::4].reshape(20, 20), np.ones((4, 4), np.uint16)))
    folder = draw_squares(tmp_path / "own", 3, size=(80, 80), table=False)
    for path in (folder / "masks").iterdir():
        picture.save(path)
    assert "expected at most 254 classes: a mask says what each pixel is" in refused(folder)


# ---- smoothed ----


def discs(count: int, size: int = 48, number: int = 4) -> list[np.ndarray]:
    rows, columns = np.mgrid[:size, :size]
    masks = []
    for i in range(number):
        mask = np.zeros((size, size), int)
        for label in range(1, count):
            y, x = 8 + 30 * (label % 2) + i, 8 + 15 * (label // 2)
            mask[(rows - y) ** 2 + (columns - x) ** 2 < 49] = label
        masks.append(mask)
    return masks


def folder_of_discs(tmp_path, pictures: list[Image.Image], ending: str = "png", **options):
    folder = draw_squares(tmp_path / "own", len(pictures), size=(48, 48), table=False)
    for i, picture in enumerate(pictures):
        (folder / "masks" / f"p{i}.png").unlink()
        picture.save(folder / "masks" / f"p{i}.{ending}", **options)
    return folder


def through_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    memory = io.BytesIO()
    picture.save(memory, "jpeg", quality=quality)
    return Image.open(memory).copy()


@pytest.mark.parametrize("quality", [60, 75, 90, 95, 98])
@pytest.mark.parametrize("values", [(0, 255), (0, 128, 255), (0, 85, 170, 255)])
def test_masks_that_were_jpegs_once_are_recognised(tmp_path, values, quality):
    save = grey(np.array(values, np.uint8))
    pictures = [through_jpeg(save(one), quality) for one in discs(len(values))]
    said = refused(folder_of_discs(tmp_path, pictures))
    assert "so many come from saving as JPEG" in said and "red,green" not in said


@pytest.mark.parametrize("quality", [75, 95])
def test_coloured_masks_that_were_jpegs_once_are_recognised(tmp_path, quality):
    pictures = [through_jpeg(rgb(COLORS)(one), quality) for one in discs(3)]
    assert "so many come from saving as JPEG" in refused(folder_of_discs(tmp_path, pictures))


@pytest.mark.parametrize("values", [(0, 1, 2, 253, 254, 255), (0, 254, 255), (0, 1, 255)])
def test_two_values_with_a_few_strays_beside_them_are_smoothed(tmp_path, values):
    masks = [one * 255 for one in discs(2)]
    for i, mask in enumerate(masks):
        for j, value in enumerate(values[1:-1]):
            mask[3 + 5 * i, 40 - 2 * j] = value
    pictures = [Image.fromarray(mask.astype(np.uint8)) for mask in masks]
    said = refused(folder_of_discs(tmp_path, pictures))
    assert "so many come from saving as JPEG" in said and "blue\n" not in said


def test_masks_that_were_resized_with_averaging_are_recognised(tmp_path):
    larger = [grey(np.array([0, 255], np.uint8))(one) for one in discs(2, size=64)]
    pictures = [one.resize((48, 48), Image.Resampling.BICUBIC) for one in larger]
    assert "resizing with smoothing" in refused(folder_of_discs(tmp_path, pictures))


@pytest.mark.parametrize(
    "values",
    [range(8), (*range(6), 255), (0, 1, 2, 254, 255), (0, 5, 17, 18, 19, 40, 41), (0, 128, 255)],
)
def test_classes_that_fill_areas_are_not_taken_for_smoothing(tmp_path, values):
    save = grey(np.array([*values], np.uint8))
    folder = folder_of_discs(tmp_path, [save(one) for one in discs(len(values), number=3)])
    assert "blue" in refused(folder)


def test_rare_classes_beside_common_ones_are_not_taken_for_smoothing(tmp_path):
    mask = np.zeros((48, 48), np.uint8)
    mask[:20, :20], mask[30:36, :6], mask[30:36, 20:26] = 40, 41, 3
    assert "3,class3," in refused(folder_of_discs(tmp_path, [Image.fromarray(mask)] * 3))


def test_specks_of_1_beside_0_and_255_are_no_object(tmp_path):
    """Of 0, 1 and 255 the last is ignored otherwise, and the object lost."""
    mask = np.zeros((48, 48), np.uint8)
    mask[:24] = 255
    mask[30::4, ::3] = 1  # 3.5 % of the pixels
    folder = folder_of_discs(tmp_path, [Image.fromarray(mask)] * 3)
    assert "and 1 fills no area; so many come from saving as JPEG" in refused(folder)
    (folder / "classes.csv").write_text("id,name,red,green,blue\n0,no,0,0,0\n1,yes,255,255,255\n")
    assert "and 1 fills no area" in refused(folder)
    (folder / "classes.csv").write_text(
        "id,name,red,green,blue,value\n0,no,0,0,0,0\n1,yes,255,255,255,1\n"
    )
    assert prepare(str(folder), "", (48, 48)).read(0)[1][30, 0] == 1


def test_seventy_classes_with_gaps_are_not_taken_for_smoothing(tmp_path):
    numbers = np.arange(2, 142, 2)
    mask = np.kron(np.resize(numbers, (12, 12)), np.ones((4, 4), int)).astype(np.uint8)
    folder = folder_of_discs(tmp_path, [Image.fromarray(mask)] * 3)
    assert "2 (" in refused(folder) and "class0," in refused(folder)


def test_the_numbers_of_a_jpeg_are_not_believed_where_classes_lie_close(tmp_path):
    """Saved as JPEG, ids become their neighbours, which are other classes."""
    folder = draw_squares(tmp_path / "own", 3)
    for path in list((folder / "masks").iterdir()):
        with Image.open(path) as picture:
            picture.save(path.with_suffix(".jpg"), quality=100)
        path.unlink()
    assert "is a JPEG, and" in refused(folder)


def test_two_values_that_a_jpeg_may_have_made_of_one_are_no_classes(tmp_path):
    greys = [Image.new("L", (16, 16), value) for value in (100, 101, 100)]
    folder = folder_of(tmp_path, greys, "jpg", quality=100)
    assert "so many come from saving as JPEG" in refused(folder)


def test_a_long_table_is_cut_on_the_screen_and_whole_in_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    numbers = np.arange(2, 142, 2)
    mask = np.kron(np.resize(numbers, (12, 12)), np.ones((4, 4), int)).astype(np.uint8)
    folder = folder_of_discs(tmp_path, [Image.fromarray(mask)] * 3)
    said = refused(folder)
    assert len(said.splitlines()) < 10 and "more lines, which are in that file" in said
    path = Path(said.partition("is listed in ")[2].splitlines()[0])
    (folder / "classes.csv").write_text(path.read_text().split("your own:\n")[1])
    assert len(read_class_table(folder / "classes.csv").names) == 70


def test_label_colors_beside_the_masks_give_the_names(tmp_path):
    """As CamVid and CVAT's exports have them; what stands there of no mask's colour is passed
    over, and so is what is no colour and name."""
    folder = folder_of(tmp_path, [KINDS["palette with gaps"](one) for one in areas(4)])
    lines = "255 0 0\tTraffic, light \n0 0 255 car\n9 9 9 tree\n\n1 2 3\n"
    (folder / "label_colors.txt").write_text(lines)
    assert (
        "0,background,0,0,0,0\n1,Traffic light,255,0,0,7\n2,car,0,0,255,15\n3,class3,90,90,90,255"
        in pasted(folder)
    )
    data = prepare(str(folder), "", (16, 16))
    assert data.table.names == ["background", "Traffic light", "car", "class3"]
