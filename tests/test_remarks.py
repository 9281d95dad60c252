"""What is said of a whole data set: splits that say little, what is ignored, pictures turned by
EXIF."""

import os

from toolbox import masks
from toolbox.errors import InputError
from toolbox.masks import IGNORE, read_image
from toolbox.prepared import overview
from toolbox.remarks import notes_on_splits

import numpy as np
import pytest
from conftest import draw_squares, move_into_splits
from PIL import Image

from dataset import prepare


def rewrite(path, change) -> None:
    with Image.open(path) as picture:
        changed = Image.fromarray(change(np.array(picture)))
    changed.save(path)


def test_a_split_that_lacks_a_class_is_named(tmp_path):
    folder = draw_squares(tmp_path / "own", 5)
    move_into_splits(folder)
    data = prepare(str(folder), "", (16, 16))
    assert data.notes == []
    rewrite(folder / "masks" / "val" / "p3.png", lambda mask: np.where(mask == 2, 1, mask))
    data = prepare(str(folder), "", (16, 16))
    assert data.notes == ["val has no pixel of blue, which train has: unjudged"]
    assert data.notes[0] in overview(data)
    rewrite(folder / "masks" / "test" / "p4.png", lambda mask: np.zeros_like(mask))
    notes = prepare(str(folder), "", (16, 16)).notes
    assert notes[1] == (
        "test holds nothing but ground: answering that everywhere scores 1.0 there, so its scores "
        "say nothing"
    )


def test_a_class_that_is_not_in_train_is_named():
    counts = {"train": np.array([5, 0]), "val": np.array([5, 5])}
    assert notes_on_splits(["a", "b"], counts)[0].startswith("train holds nothing but a")
    assert notes_on_splits(["a", "b"], counts)[1] == (
        "train has no pixel of b, which val has: unlearnt"
    )
    many = np.ones(9, int)
    few = np.array([1, 1] + [0] * 7)
    (note,) = notes_on_splits([*"abcdefghi"], {"train": many, "test": few})
    assert note == "test has no pixel of c, d, e, f, g and 2 more, which train has: unjudged"


@pytest.mark.parametrize("rows, is_said", [(1, False), (4, True)])
def test_much_that_is_ignored_without_a_table_saying_so_is_said(tmp_path, rows, is_said):
    folder = draw_squares(tmp_path / "own", 3, size=(32, 16))
    for path in (folder / "masks").iterdir():
        with Image.open(path) as picture:
            mask = np.array(picture)
        mask[:rows] = IGNORE
        Image.fromarray(mask).save(path)
    notes = prepare(str(folder), "", (16, 16)).notes
    assert any("255, 12.5% of the pixels, is ignored" in note for note in notes) == is_said
    with open(folder / "classes.csv", "a") as file:
        file.write("255,void,255,255,255\n")
    assert not any("is ignored" in note for note in prepare(str(folder), "", (16, 16)).notes)


def test_0_1_and_255_without_a_table_say_how_much_is_ignored(tmp_path):
    folder = draw_squares(tmp_path / "own", 4, table=False)
    for path in (folder / "masks").iterdir():
        Image.fromarray(
            np.repeat([0, 1, 255, 255], 4)[:, None].repeat(16, 1).astype(np.uint8)
        ).save(path)
    _, note = prepare(str(folder), "", (16, 16)).notes
    assert note.startswith("255, 50.0% of the pixels, is ignored, as it is in no class table")


# ---- pictures turned by EXIF ----


def turn_images(folder, turns: list[int], also_masks: bool = False) -> None:
    """Pictures get an EXIF note; masks too are turned, as viewers show the pictures."""
    for i, turn in enumerate(turns):
        exif = Image.Exif()
        exif[0x0112] = turn
        with Image.open(folder / "images" / f"p{i}.png") as picture:
            picture.load()
        picture.save(folder / "images" / f"p{i}.png", exif=exif)
        if also_masks:
            with Image.open(folder / "masks" / f"p{i}.png") as mask:
                mask = mask.rotate(-90 if turn == 6 else 180, expand=True)
            mask.save(folder / "masks" / f"p{i}.png")


def test_masks_that_fit_a_picture_only_before_exif_turns_it_are_one_problem(tmp_path):
    folder = draw_squares(tmp_path / "own", 8, size=(16, 24))
    turn_images(folder, [6, 6, 6, 6, 8, 3, 1])
    with pytest.raises(InputError) as caught:
        prepare(str(folder), "", (16, 16))
    said = str(caught.value)
    assert "5 masks fit their pictures only as these lie on disk, before their EXIF note" in said
    assert "turn the masks as viewers show the pictures, or take the EXIF notes out" in said
    assert "6 pictures are turned by their EXIF note; of half turns and squares sizes don't" in said
    assert len(said.splitlines()) == 4


def test_masks_turned_as_the_pictures_are_fine_and_counted(tmp_path):
    folder = draw_squares(tmp_path / "own", 8, size=(16, 24))
    turn_images(folder, [6, 6, 3, 1], also_masks=True)
    data = prepare(str(folder), "", (16, 16))
    expected = (
        "3 pictures are turned by their EXIF note (such as p0.png, p1.png, p2.png), and masks have "
        "the sizes of the turned ones"
    )
    assert data.notes == [expected] and expected in overview(data)
    assert read_image(folder / "images" / "p0.png").shape == (24, 16, 3)


@pytest.mark.parametrize("size, turns", [((16, 24), [3, 3, 2]), ((16, 16), [6, 8, 3, 5])])
def test_where_sizes_cannot_tell_how_masks_lie_it_is_said(tmp_path, size, turns):
    folder = draw_squares(tmp_path / "own", 8, size=size)
    turn_images(folder, turns)
    (note,) = prepare(str(folder), "", (16, 16)).notes
    assert note == (
        f"{len(turns)} pictures are turned by their EXIF note (such as p0.png, p1.png, p2.png); "
        "sizes don't show whether their masks lie as viewers show the pictures: look at the samples"
    )


def test_exif_is_looked_at_once_and_without_decoding(tmp_path, monkeypatch):
    folder = draw_squares(tmp_path / "own", 4)
    turn_images(folder, [3])
    first = prepare(str(folder), "", (16, 16))
    monkeypatch.setattr(masks.Image, "open", None)
    assert prepare(str(folder), "", (16, 16)).notes == first.notes != []
    monkeypatch.undo()

    def load(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr(masks.Image.Image, "load", load)
    assert masks.turned(folder / "images" / "p0.png") == 3
    assert masks.turned(folder / "images" / "p1.png") == 1


def test_published_pictures_keep_their_notes(tmp_path):
    import layouts

    layouts.make_camvid(tmp_path / "camvid")
    assert prepare("camvid", str(tmp_path), (48, 48)).notes == []


# ---- what is no picture ----


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_a_pipe_is_named_and_never_opened(tmp_path):
    folder = draw_squares(tmp_path / "own", 4)
    (folder / "masks" / "p0.png").unlink()
    os.mkfifo(folder / "masks" / "p0.png")
    with pytest.raises(InputError, match="p0.png is no file but a pipe, a socket or a device"):
        prepare(str(folder), "", (16, 16))
    with pytest.raises(
        InputError, match="p0.png can't be read as a picture .it is a folder, a pip"
    ):
        read_image(folder / "masks" / "p0.png")


@pytest.mark.parametrize("name", ["a.heic", "b.HEIF", "c.avif"])
def test_pictures_of_phones_that_cannot_be_read_get_a_hint(tmp_path, name):
    (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic")
    with pytest.raises(
        InputError, match=f"{name} can't be read as a picture .*; save it as JPEG or"
    ):
        read_image(tmp_path / name)


def test_files_of_16_bits_in_several_ranges_are_told(tmp_path):
    folder = draw_squares(tmp_path / "own", 5)
    for i, path in enumerate(sorted((folder / "images").iterdir())):
        values = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
        values[0, 0] = 4200 if i == 2 else 4000
        Image.fromarray(values).save(path)
    (note,) = [note for note in prepare(str(folder), "", (16, 16)).notes if "16 bits" in note]
    assert "several ranges (4 up to 4095, 1 up to 65535)" in note
    rewrite(folder / "images" / "p2.png", lambda values: np.minimum(values, 4000))
    assert not any("16 bits" in note for note in prepare(str(folder), "", (16, 16)).notes)


def test_a_class_that_image_size_loses_is_told(tmp_path):
    folder = draw_squares(tmp_path / "own", 5)
    for i in range(3):
        rewrite(folder / "masks" / f"p{i}.png", lambda mask: np.where(mask == 2, 0, mask))

        def one_pixel(mask):
            mask = mask.copy()
            mask[1, 1] = 2
            return mask

        rewrite(folder / "masks" / f"p{i}.png", one_pixel)
    notes = prepare(str(folder), "", (4, 4)).notes
    assert "3 of 5 masks with blue keep no pixel of it at 4×4: a larger image_size keeps more" in (
        notes
    )
    with Image.open(folder / "masks" / "p0.png") as mask:
        whole = mask.size[::-1]
    assert not any("larger image_size" in note for note in prepare(str(folder), "", whole).notes)
