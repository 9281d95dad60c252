"""Reading pictures and masks: every kind of file, palettes, sizes."""

import os
import zlib

from toolbox import masks
from toolbox.errors import InputError
from toolbox.masks import IGNORE, color_key, read_image, resize_mask

import cv2
import numpy as np
import pytest
from conftest import draw_squares
from PIL import ExifTags, Image

import dataset
from dataset import prepare, read_ids

COLORS = np.random.default_rng(0).integers(0, 256, (6, 7, 3)).astype(np.uint8)


def test_row_21_every_kind_of_picture_is_read_to_rgb(tmp_path):
    picture = Image.fromarray(COLORS)
    picture.save(tmp_path / "rgb.png")
    assert np.array_equal(read_image(tmp_path / "rgb.png"), COLORS)
    (tmp_path / "wrong.jpg").write_bytes((tmp_path / "rgb.png").read_bytes())
    assert np.array_equal(read_image(tmp_path / "wrong.jpg"), COLORS)
    picture.convert("L").save(tmp_path / "grey.png")
    assert np.array_equal(
        read_image(tmp_path / "grey.png"), np.array(picture.convert("L").convert("RGB"))
    )
    picture.quantize(256).save(tmp_path / "palette.png")
    assert np.array_equal(
        read_image(tmp_path / "palette.png"), np.array(picture.quantize(256).convert("RGB"))
    )
    picture.convert("CMYK").save(tmp_path / "cmyk.tif")
    assert np.array_equal(
        read_image(tmp_path / "cmyk.tif"), np.array(picture.convert("CMYK").convert("RGB"))
    )
    Image.fromarray(COLORS[:1, :1]).save(tmp_path / "Größe 一.png")
    assert read_image(tmp_path / "Größe 一.png").shape == (1, 1, 3)


def test_row_21_16_bits_are_scaled_not_clipped(tmp_path):
    Image.fromarray(COLORS[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    assert np.array_equal(read_image(tmp_path / "deep.png")[..., 1], COLORS[..., 0])


def test_row_21_pictures_of_12_bits_are_as_light_as_they_were(tmp_path):
    """Cameras save them as 16 bits, of which they leave the highest four unused."""
    twelve = COLORS[..., 0].astype(np.uint16) * 16
    Image.fromarray(twelve).save(tmp_path / "camera.tif")
    seen = read_image(tmp_path / "camera.tif")[..., 1]
    assert np.abs(seen.astype(int) - COLORS[..., 0]).max() <= 1


@pytest.mark.parametrize("times", [1, 4])
def test_row_21_8_or_10_bits_in_a_file_of_16_are_as_light_as_they_were(tmp_path, times):
    Image.fromarray(COLORS[..., 0].astype(np.uint16) * times).save(tmp_path / "few.tif")
    seen = read_image(tmp_path / "few.tif")[..., 1]
    assert np.abs(seen.astype(int) - COLORS[..., 0]).max() <= 1


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("times", [1, 4, 16, 257])
def test_row_21_coloured_pictures_of_16_bits_are_as_light_as_they_were(tmp_path, ending, times):
    """Pillow takes the upper 8 bits, which are all but black where fewer than 16 are used."""
    path = tmp_path / f"deep.{ending}"
    cv2.imwrite(str(path), COLORS[..., ::-1].astype(np.uint16) * times)
    assert np.abs(read_image(path).astype(int) - COLORS).max() <= 1


def test_row_21_a_coloured_picture_of_12_bits_keeps_its_transparency_and_is_turned(tmp_path):
    seen = np.full((*COLORS.shape[:2], 1), 65535, np.uint16)
    seen[0, 0] = 0
    deep = np.dstack([COLORS[..., ::-1].astype(np.uint16) * 16, seen])
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # a quarter to the right
    chunk = exif.tobytes()[6:]  # without its "Exif" and two zeros
    content = (tmp_path / "deep.png").read_bytes()
    start = content.index(b"IDAT") - 4
    crc = zlib.crc32(b"eXIf" + chunk).to_bytes(4)
    note = len(chunk).to_bytes(4) + b"eXIf" + chunk + crc
    (tmp_path / "deep.png").write_bytes(content[:start] + note + content[start:])
    expected = COLORS.astype(int)
    expected[0, 0] = 255
    assert np.abs(read_image(tmp_path / "deep.png") - np.rot90(expected, -1)).max() <= 1


def test_row_21_a_hole_in_a_measured_picture_does_not_blacken_the_rest(tmp_path):
    values = COLORS[..., 0].astype(np.float32)
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "measured.tif")
    expected = np.nan_to_num(values) * (255 / np.nanmax(values)) + 0.5
    assert np.array_equal(read_image(tmp_path / "measured.tif")[..., 0], expected.astype(np.uint8))


def test_row_21_exif_turns_and_transparency_shows_white(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6  # a quarter turn
    Image.fromarray(COLORS).save(tmp_path / "turned.png", exif=turned)
    assert np.array_equal(read_image(tmp_path / "turned.png"), np.rot90(COLORS, -1))
    alpha = np.full((6, 7, 1), 255, np.uint8)
    alpha[:, 3:] = 0
    Image.fromarray(np.concatenate([COLORS, alpha], 2)).save(tmp_path / "alpha.png")
    assert np.array_equal(read_image(tmp_path / "alpha.png")[:, :3], COLORS[:, :3])
    assert (read_image(tmp_path / "alpha.png")[:, 3:] == 255).all()


@pytest.mark.parametrize("content", [b"", b"not a picture", "torn"])
def test_an_unreadable_picture_is_named(tmp_path, content):
    path = tmp_path / "bad.png"
    Image.effect_noise((40, 40), 99).save(path)
    path.write_bytes(path.read_bytes()[:600] if content == "torn" else content)
    with pytest.raises(InputError, match="bad.png can't be read as a picture"):
        read_image(path)


def test_row_21_long_thin_animated_and_linked_pictures_are_read(tmp_path):
    Image.fromarray(np.full((1, 20000, 3), 7, np.uint8)).save(tmp_path / "thin.png")
    assert read_image(tmp_path / "thin.png").shape == (1, 20000, 3)
    frames = [Image.fromarray(COLORS), Image.fromarray(255 - COLORS)]
    frames[0].save(tmp_path / "moving.webp", save_all=True, append_images=frames[1:], lossless=True)
    assert np.array_equal(read_image(tmp_path / "moving.webp"), COLORS)
    (tmp_path / "link.png").symlink_to(tmp_path / "thin.png")
    assert read_image(tmp_path / "link.png").shape == (1, 20000, 3)


def test_row_21_a_picture_past_the_limit_and_a_folder_named_like_one_are_refused(
    tmp_path, monkeypatch
):
    Image.fromarray(COLORS).save(tmp_path / "big.png")
    monkeypatch.setattr(masks, "PIXEL_LIMIT", 41)
    with pytest.raises(InputError, match="big.png has 7×6 pixels, more than 41; cut it"):
        read_image(tmp_path / "big.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(InputError, match="folder.png can't be read"):
        read_image(tmp_path / "folder.png")


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="needs a user whom files can be closed to"
)
def test_row_21_a_picture_without_permission_is_refused(tmp_path):
    Image.fromarray(COLORS).save(tmp_path / "closed.png")
    (tmp_path / "closed.png").chmod(0)
    with pytest.raises(InputError, match="closed.png can't be read"):
        read_image(tmp_path / "closed.png")


def test_too_little_memory_for_a_picture_is_not_taken_for_a_damaged_one(tmp_path, monkeypatch):
    Image.fromarray(COLORS).save(tmp_path / "a.png")

    def none_left(*_, **__):
        raise MemoryError

    monkeypatch.setattr(masks.ImageOps, "exif_transpose", none_left)
    with pytest.raises(MemoryError):
        read_image(tmp_path / "a.png")
    folder = draw_squares(tmp_path / "own", 3, table=True)
    monkeypatch.setattr(dataset, "read_pair", none_left)
    with pytest.raises(InputError, match="p0.png or its mask is too big for this machine's memory"):
        prepare(str(folder), "", (16, 16))


def test_row_4_palette_masks_give_their_ids(tmp_path):
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    picture = Image.fromarray(mask)
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0] + [7] * 759)
    picture.save(tmp_path / "voc.png")
    assert np.array_equal(read_ids(tmp_path / "voc.png", {0: 0, 1: 1, 2: 2, 255: IGNORE}), mask)


def test_row_4_a_palette_whose_colours_contradict_its_ids_is_named(tmp_path):
    folder = draw_squares(tmp_path / "own", 4)
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    for i in range(4):
        with Image.open(folder / "masks" / f"p{i}.png") as mask:
            ids = np.array(mask)
        picture = Image.fromarray(
            ids if i else 2 - ids
        )  # the first shows the same colours, but numbers them from the end
        picture.putpalette((colors if i else colors[::-1]).tobytes())
        picture.save(folder / "masks" / f"p{i}.png")
    with pytest.raises(
        InputError,
        match=r"1 thing.*\n.*p0.png is a palette picture whose value \d has the colour .*, "
        "which the class table gives to class",
    ):
        prepare(str(folder), "", (16, 16))


@pytest.mark.parametrize(
    "palette", [[255, 255, 255, 0, 0, 0], [0, 0, 255, 9, 9, 9], [i // 3 for i in range(768)]]
)
def test_row_4_a_palette_of_other_colours_leaves_its_ids(tmp_path, palette):
    meaning = {
        0: 0,
        1: 1,
        color_key((0, 0, 255)): 1,
        color_key((255, 255, 255)): 0,
        color_key((3, 3, 3)): 0,
    }
    for ids in ([[0, 1]], [[0, 0]], [[1, 1]]):
        picture = Image.fromarray(np.array(ids, np.uint8))
        picture.putpalette(palette)
        picture.save(tmp_path / "mask.png")
        assert read_ids(tmp_path / "mask.png", meaning).tolist() == ids


def test_masks_shrink_from_pixel_centres_and_never_mix():
    mask = np.kron(np.array([[3, 9], [200, 0]], np.uint8), np.ones((3, 3), np.uint8))
    assert resize_mask(mask, (2, 2)).tolist() == [[3, 9], [200, 0]]
    assert set(np.unique(resize_mask(mask, (5, 4)))) == {0, 3, 9, 200}
