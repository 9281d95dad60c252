from toolbox import pictures
from toolbox.masks import IGNORE

import numpy as np
import torch
from PIL import Image


def test_row_6_masks_hold_ids_show_colours_and_keep_255(tmp_path):
    mask = np.array([[0, 1, 2, IGNORE]], np.uint8)
    pictures.save_mask(tmp_path / "mask.png", mask, [(0, 0, 0), (255, 0, 0), (0, 0, 255)])
    with Image.open(tmp_path / "mask.png") as picture:
        assert picture.mode == "P" and np.array_equal(np.array(picture), mask)
        assert np.array(picture.convert("RGB"))[0, 1:3].tolist() == [[255, 0, 0], [0, 0, 255]]


def test_overlay_keeps_the_picture_above_a_legend_of_its_classes():
    image, mask = np.full((50, 300, 3), 200, np.uint8), np.zeros((50, 300), np.uint8)
    mask[:, 150:] = 1
    drawn = pictures.overlay(image, mask, ["a", "b", "c"], [(0, 0, 0), (255, 0, 0), (0, 255, 0)])
    assert drawn.shape[0] > 50 and drawn.shape[1] == 300
    assert drawn[0, 0].tolist() == [90, 90, 90] and drawn[0, 200].tolist() == [230, 90, 90]
    below = drawn[50:].reshape(-1, 3).tolist()
    assert [255, 0, 0] in below and [0, 255, 0] not in below
    assert pictures.overlay(image[:1, :1], mask[:1, :1], ["a"], [(0, 0, 0)]).shape[1] >= 100


def test_a_legend_of_34_names_stays_inside_its_width():
    assert pictures.legend(
        [f"class number {i}" for i in range(34)], [(i, i, i) for i in range(34)], 400
    ).shape[1:] == (400, 3)


def test_words_grow_with_the_sheet_and_can_be_read_where_it_is_shrunk():
    for draw in (
        lambda width: pictures.headed(["image"], width),
        lambda width: pictures.legend(["road"], [(255, 255, 255)], width),
    ):
        rows = {width: (draw(width) < 128).any(axis=(1, 2)).sum() for width in (900, 2700)}
        assert 2.7 < rows[2700] / rows[900] < 3.3, rows


def test_a_legend_has_a_patch_for_what_is_ignored_where_some_is():
    names, colors = ["a"], [(9, 9, 9)]
    expected = ["a", "ignored"], [(9, 9, 9), (255, 255, 255)]
    assert pictures.legend_of(torch.tensor([0, IGNORE]), names, colors) == expected
    assert pictures.legend_of(torch.tensor([0, 1]), names, colors) == (names, colors)


def test_learning_shows_the_prediction_of_each_step_beside_image_and_mask():
    names, colors = ["a", "b", "c"], [(0, 0, 0), (255, 0, 0), (0, 0, 255)]
    images = torch.randint(0, 256, (2, 3, 128, 256), dtype=torch.uint8)
    masks, *preds = torch.randint(0, 3, (10, 2, 128, 256), dtype=torch.uint8)
    seen = dict(zip(range(10, 100, 10), preds))
    drawn = pictures.learning_sheet(images, masks, seen, names, colors)
    head = 2 * pictures.CAPTION  # six columns are wide enough for words of twice the size
    for i in range(2):
        cells = [images[i].permute(1, 2, 0).numpy()]
        for ids in (masks, seen[10], seen[40], seen[60], seen[90]):
            cells.append(pictures.color_mask(ids[i].numpy(), colors))
        row = drawn[head + i * 132 :][:132]
        for column, cell in enumerate(cells):
            assert np.array_equal(row[2:130, column * 260 + 2 : column * 260 + 258], cell)
    words = pictures.legend(names, colors, 6 * 260)
    assert np.array_equal(drawn[head + 2 * 132 :], words)


def test_learning_shrinks_large_pictures_and_has_a_whole_legend():
    images = torch.zeros(1, 3, 300, 640, dtype=torch.uint8)
    masks = torch.zeros(1, 300, 640, dtype=torch.uint8)
    names, colors = ["a" * 9] * 20, [(9, 9, 9)] * 20
    drawn = pictures.learning_sheet(images, masks, {1: masks}, names, colors)
    head = pictures.headed(["image", "mask", "step 1"], 260)
    words = pictures.legend(names, colors, 3 * 260)
    assert np.array_equal(drawn[: len(head)], head)
    assert np.array_equal(drawn[-len(words) :], words)
    assert len(drawn) == len(head) + 124 + len(words)
