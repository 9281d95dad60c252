"""dataset.py: ids, augmentation, the stream and its batches, and the command."""

import itertools
import os
import random
import subprocess
import sys
from functools import partial

from toolbox import settings
from toolbox.errors import InputError
from toolbox.masks import COLOR, IGNORE, color_key, resize_image, resize_mask

import cv2
import numpy as np
import pytest
import torch
from conftest import draw_squares
from PIL import Image

import dataset
from dataset import (
    SegmentationDataset,
    make_augment,
    ordered_batches,
    prepare,
    read_ids,
    training_batches,
)


def test_coloured_masks_are_looked_up_by_colour(tmp_path):
    rgb = np.array([[[1, 2, 3], [200, 0, 0], [0, 0, 0]]], np.uint8)
    Image.fromarray(rgb).save(tmp_path / "mask.png")
    meaning = {
        color_key((1, 2, 3)): 0,
        color_key((200, 0, 0)): 1,
        color_key((0, 0, 0)): IGNORE,
        0: 7,
    }
    assert read_ids(tmp_path / "mask.png", meaning).tolist() == [[0, 1, IGNORE]]


def test_row_1_unknown_values_are_named_with_their_pixel_counts(tmp_path):
    Image.fromarray(np.array([[0, 1, 7, 7, 9]], np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(
        InputError, match=r"mask.png holds 7 \(2 pixels\), 9 \(1 pixels\), not in the class table"
    ):
        read_ids(tmp_path / "mask.png", {0: 0, 1: 1})
    Image.fromarray(np.array([[[9, 8, 7]]], np.uint8)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match=r"colour \(9, 8, 7\)"):
        read_ids(tmp_path / "mask.png", {0: 0, 1: 1, COLOR: 0})


def stream_of(tmp_path, count=5, seed=0) -> SegmentationDataset:
    data = prepare(str(draw_squares(tmp_path / "own", count)), "", (16, 16))
    return SegmentationDataset(data, "train", make_augment((16, 16), "zoom+flip+color+grey"), seed)


def test_strength_says_how_far_zoom_and_colour_go(tmp_path):
    data = prepare(str(draw_squares(tmp_path / "own", 8, size=(64, 64))), "", (64, 64))
    apart = []
    for strength in (0.0, 1.0, 3.0):
        stream = SegmentationDataset(data, "train", make_augment((64, 64), "zoom+color", strength))
        pictures = [(stream[position], data.read(stream.row(position))) for position in range(48)]
        apart.append(
            [
                np.mean(
                    [
                        np.abs(now.permute(1, 2, 0).numpy() - was.astype(float)).mean()
                        for (now, _), (was, _) in pictures
                    ]
                ),
                np.mean([(now.numpy() != was).mean() for (_, now), (_, was) in pictures]),
            ]
        )
    assert apart[0] == [0, 0]
    assert apart[1][0] > 2 and apart[2][0] > 1.5 * apart[1][0]  # grey values
    assert apart[1][1] > 0.005 and apart[2][1] > 1.5 * apart[1][1]  # share of the mask's pixels


def test_training_pictures_may_be_smaller_and_zoom_takes_its_detail_from_the_whole(tmp_path):
    data = prepare(str(draw_squares(tmp_path / "own", 8, size=(64, 64))), "", (64, 64))
    stream = SegmentationDataset(data, "train", make_augment((32, 48), "zoom", 3.0))
    whole = [
        (resize_image(image, (32, 48)), resize_mask(mask, (32, 48)))
        for image, mask in map(data.read, stream.rows)
    ]
    shrunk = 0
    for image, mask in (stream[position] for position in range(40)):
        assert image.shape == (3, 32, 48) and mask.shape == (32, 48)
        image, mask = image.permute(1, 2, 0).numpy().astype(int), mask.numpy()
        shrunk += any(
            np.abs(image - other).max() <= 1 and (mask == its_mask).all()
            for other, its_mask in whole
        )
        for label, channel in ((1, 0), (2, 2)):  # a red square's mask lies on what is red
            inside = cv2.erode((mask == label).astype(np.uint8), np.ones((3, 3))) > 0
            assert (
                not inside.any()
                or image[inside][:, channel].mean() > image[inside][:, 1].mean() + 100
            )
    assert 0 < shrunk < 20  # zoom leaves one of ten whole
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    zoom = make_augment((48, 48), "zoom", 3.0)
    detail = max(zoom(image=stripes, mask=stripes[..., 0])["image"].std() for _ in range(40))
    assert detail > 1.3 * resize_image(stripes, (48, 48)).std()


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # where there is one core
def test_row_13_workers_change_nothing_and_epochs_never_repeat(tmp_path):
    stream = stream_of(tmp_path, 12)
    runs = []
    for workers in (0, 1, 2):
        batches = training_batches(stream, 2, num_workers=workers)
        runs.append(
            [
                torch.cat([images.flatten(), masks.flatten()])
                for images, masks in itertools.islice(batches, 12)
            ]
        )
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(*runs))
    count = len(stream)
    images = [stream[position][0] for position in range(3 * count)]
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(images, 2))
    orders = [[stream.row(epoch * count + i) for i in range(count)] for epoch in range(3)]
    assert (
        all(sorted(order) == sorted(stream.rows) for order in orders)
        and orders[0] != orders[1] != orders[2]
    )


def test_row_14_the_stream_goes_on_from_any_position(tmp_path):
    stream = stream_of(tmp_path)
    whole = list(itertools.islice(training_batches(stream, 2), 6))
    for (a, b), (c, d) in zip(whole[3:], training_batches(stream, 2, first=6)):
        assert torch.equal(a, c) and torch.equal(b, d)


def test_row_14_the_loader_leaves_torchs_generator_alone(tmp_path):
    stream = stream_of(tmp_path)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    next(training_batches(stream, 2))
    next(ordered_batches(stream, 2))
    assert torch.equal(torch.rand(3), expected)


def test_image_and_mask_are_moved_together(tmp_path):
    stream, checked = stream_of(tmp_path, 8), 0
    for position in range(40):
        image, mask = stream[position]
        red, green, blue = image.float()
        inside = mask == 1
        if inside.sum() > 20 and not torch.equal(red, blue):  # equal where it was turned grey
            assert (red - blue)[inside].mean() > 60
            checked += 1
    assert checked > 20
    random.seed(1)
    first = random.random()
    random.seed(1)
    stream[0]
    assert random.random() == first  # nor do augmentations touch Python's generator


def test_row_24_validation_is_not_augmented_and_ordered_batches_cover_it_evenly(tmp_path):
    data = prepare(str(draw_squares(tmp_path / "own", 20)), "", (16, 16))
    split = SegmentationDataset(data, "train")
    masks = torch.cat([masks for _, masks in ordered_batches(split, 3)])
    assert np.array_equal(masks.numpy(), np.stack([data.read(row)[1] for row in split.rows]))
    chosen = torch.cat([masks for _, masks in ordered_batches(split, 2, batches=2)])
    assert len(chosen) == 4 and torch.equal(chosen[-1], masks[-1])


def test_row_29_albumentations_is_told_not_to_ask_the_network():
    assert os.environ["NO_ALBUMENTATIONS_UPDATE"] == "1"


def rewrite(path, change):
    with Image.open(path) as picture:
        Image.fromarray(change(np.array(picture))).save(path)


BROKEN = {
    "an orphan picture": (lambda own: (own / "masks" / "p0.png").unlink(), "p0.png has no mask"),
    "an orphan mask": (lambda own: (own / "images" / "p0.png").unlink(), "p0.png has no image"),
    "a duplicate": (
        lambda own: Image.new("RGB", (16, 16)).save(own / "images" / "p0.bmp"),
        "have the same stem",
    ),
    "an unreadable picture": (
        lambda own: (own / "images" / "p0.png").write_bytes(b""),
        "p0.png can't be read as a picture",
    ),
    "an unreadable mask": (
        lambda own: (own / "masks" / "p0.png").write_bytes(b"torn"),
        "p0.png can't be read as a picture",
    ),
    "another size": (
        lambda own: rewrite(own / "masks" / "p0.png", lambda mask: mask[:8]),
        "a mask has its image's size",
    ),
    "an unknown value": (
        lambda own: rewrite(
            own / "masks" / "p0.png", lambda mask: np.where(mask == 2, 11, mask).astype(np.uint8)
        ),
        "holds 11 (36 pixels), not in the class table",
    ),
    "a smoothed mask": (
        lambda own: rewrite(
            own / "masks" / "p0.png", lambda mask: np.arange(256, dtype=np.uint8).reshape(16, 16)
        ),
        "saving as JPEG",
    ),
    "an empty class": (
        lambda own: (own / "classes.csv").write_text(
            (own / "classes.csv").read_text() + "3,none,7,7,7\n"
        ),
        "no mask has a pixel of class 3 none",
    ),
    "the same picture twice": (
        lambda own: [
            (own / "images" / f"p{i}.png").write_bytes((own / "images" / "p0.png").read_bytes())
            for i in range(1, 6)
        ],
        "is the same picture as",
    ),
    "a missing table": (
        lambda own: (own / "classes.csv").unlink(),
        "id,name,red,green,blue\n0,class0",
    ),
    "a dead link": (
        lambda own: [
            (own / "images" / "p0.png").unlink(),
            (own / "images" / "p0.png").symlink_to("nowhere"),
        ],
        "is a link to nothing",
    ),
    "an empty folder": (
        lambda own: [path.unlink() for path in own.glob("*/*")],
        "has no pairs of image and mask",
    ),
}


@pytest.mark.parametrize("what", ["nothing", *BROKEN])
def test_dataset_py_ends_with_1_and_a_sentence_for_every_kind_of_fault_and_with_0_for_none(
    tmp_path, monkeypatch, capsys, what
):
    draw_squares(tmp_path / "own", 6)
    spoil, sentence = BROKEN.get(what, (lambda own: None, ""))
    spoil(tmp_path / "own")
    monkeypatch.chdir(tmp_path)
    constants = settings.read_constants()
    monkeypatch.setattr(sys, "argv", ["dataset.py", "dataset=own", "image_size=16"])
    with pytest.raises(SystemExit) as ended:
        settings.run_script(constants, partial(dataset.main, constants))
    if what == "nothing":
        assert not ended.value.code and "no problems found" in capsys.readouterr().out
    else:
        assert sentence in ended.value.code  # sys.exit(text) prints it and ends with status 1


def test_dataset_py_reports_and_draws_samples_and_exits_1_where_something_is_wrong(project):
    folder = draw_squares(project / "own", 6)
    command = [sys.executable, "dataset.py", "dataset=own", "image_size=16"]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "6 pairs" in done.stdout and "red" in done.stdout and "no problems" in done.stdout
    assert (project / "TrainingOutput" / "samples-own.png").exists()
    (folder / "masks" / "p0.png").unlink()
    done = subprocess.run(command, cwd=project, capture_output=True, text=True)
    assert (
        done.returncode == 1
        and "p0.png has no mask" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_dataset_py_and_model_py_need_no_train_py_that_could_be_imported(project):
    draw_squares(project / "own", 6)
    script = project / "train.py"
    text = script.read_text(encoding="utf-8")
    guard = 'if __name__ == "__main__":'
    assert text.count(guard) == 1
    broken = text.replace(guard, f'raise SystemExit("train.py was run")\n\n{guard}')
    script.write_text(broken, encoding="utf-8")

    def run(*arguments: str) -> subprocess.CompletedProcess:
        command = [sys.executable, *arguments]
        return subprocess.run(command, cwd=project, capture_output=True, text=True)

    assert "train.py was run" in run("-c", "import train").stderr
    own = ("dataset=own", "image_size=16")
    for command, words in (("dataset.py", "no problems found"), ("model.py", "parameters")):
        done = run(command, *own)
        assert done.returncode == 0 and words in done.stdout, done.stderr


def test_a_window_is_cut_out_and_not_shrunk():
    rows, columns = np.mgrid[:20, :30]
    image = np.stack([rows, columns, rows], axis=2).astype(np.uint8)
    seen = set()
    for i in range(20):
        augment = make_augment((8, 12), "", 1.0, (8, 12))
        augment.set_random_state(np.random.default_rng(i), random.Random(i))
        both = augment(image=image, mask=rows.astype(np.uint8))
        top, left = both["image"][0, 0, :2].tolist()
        assert np.array_equal(both["image"], image[top : top + 8, left : left + 12])
        assert np.array_equal(both["mask"], rows[top : top + 8, left : left + 12])
        seen.add((top, left))
    assert len(seen) > 5


def test_a_part_of_another_picture_is_pasted_in_with_its_mask(tmp_path):
    data = prepare(str(draw_squares(tmp_path / "own", 12, size=(32, 40))), "", (32, 40))
    augment = make_augment((32, 40), "zoom+flip")
    plain = SegmentationDataset(data, "train", augment)
    always, half = (SegmentationDataset(data, "train", augment, mix=mix) for mix in (1, 0.5))
    sides, mixed = set(), 0
    for position in range(60):
        (was, was_mask), (image, mask) = plain[position], always[position]
        rows, columns = torch.where((image != was).any(0))
        if not len(rows):  # ground was pasted on ground of its colour
            continue
        height, width = (int(at.max() - at.min()) + 1 for at in (rows, columns))
        assert height <= 0.7 * 32 + 1 and width <= 0.7 * 40 + 1
        sides.add((height, width))
        untouched = (image == was).all(0)
        untouched[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
        assert untouched.all()  # all that differs is in one rectangle, of the mask too
        rows_of_mask, columns_of_mask = torch.where(mask != was_mask)
        if len(rows_of_mask):
            assert rows.min() <= rows_of_mask.min() and rows_of_mask.max() <= rows.max()
            assert columns.min() <= columns_of_mask.min()
            assert columns_of_mask.max() <= columns.max()
        assert torch.equal(always[position][0], image)  # the position alone decides
        for label, channel in ((1, 0), (2, 2)):  # a red square's mask still lies on what is red
            inside = cv2.erode((mask == label).numpy().astype(np.uint8), np.ones((5, 5))) > 0
            if inside.any():
                values = image.permute(1, 2, 0).numpy().astype(int)[inside]
                assert values[:, channel].mean() > values[:, 1].mean() + 60
        mixed += not torch.equal(half[position][0], was)
    assert len(sides) > 30 and 18 <= mixed <= 42


def test_the_samples_show_pictures_as_the_net_is_shown_them(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(dataset, "save_samples", lambda stream, data: drawn.append(stream))
    constants = settings.read_constants() | {"dataset": str(draw_squares(tmp_path / "own", 6))}
    for mix in (0.0, 1.0):
        dataset.main(constants | {"image_size": (16, 16), "mix": mix, "seed": 3})
    assert [(stream.mix, stream.seed) for stream in drawn] == [(0.0, 3), (1.0, 3)]
