"""inference.py: a mask for each picture, tiles, test-time augmentation, uncertainty."""

import csv
import os
import subprocess
import sys
from pathlib import Path

from toolbox import tiles
from toolbox.errors import InputError
from toolbox.machine import Place
from toolbox.masks import read_image, resize_image

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

import inference
import utils
from model import UNet, build_model

CLASSES = [
    {"name": "ground", "color": [0, 0, 0]},
    {"name": "red", "color": [255, 0, 0]},
    {"name": "blue", "color": [0, 0, 255]},
]


def make_place(tmp_path: Path, monkeypatch) -> Path:
    """A folder with a checkpoint and an empty TestImages, and inference.py's constants as they
    are."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    arguments = dict(
        architecture="unet", num_classes=3, in_channels=3, features=[4, 8], dropout=0.3
    )
    weights = UNet(3, features=[4, 8], dropout=0.3).state_dict()
    utils.save_checkpoint(
        Path("unet_model.pth"),
        {
            "format": 1,
            "model": arguments,
            "weights": weights,
            "classes": CLASSES,
            "image_size": [16, 24],
        },
    )
    Path("InferenceOutput/TestImages").mkdir(parents=True)
    monkeypatch.setattr(inference, "device", "cpu")
    return tmp_path / "InferenceOutput"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    return make_place(tmp_path, monkeypatch)


def save(folder: Path, name: str, mode: str = "RGB", size: tuple[int, int] = (30, 20)) -> None:
    noise = (
        np.random.default_rng(len(name)).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    )
    Image.fromarray(noise).convert(mode).save(folder / "TestImages" / name)


def test_inference_before_any_training_says_what_to_run_first(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "inference.py")], cwd=tmp_path, capture_output=True, text=True
    )
    assert (
        done.returncode == 1 and "python train.py" in done.stderr and "Traceback" not in done.stderr
    )


def test_every_picture_gets_a_mask_of_its_own_size_an_overlay_and_a_row(place):
    for name, mode, size in (
        ("a.png", "RGB", (31, 17)),
        ("grey.png", "L", (24, 16)),
        ("clear.png", "RGBA", (7, 50)),
        ("dot.png", "RGB", (1, 1)),
    ):
        save(place, name, mode, size)
    assert inference.main() == 0
    for name, size in (("a", (31, 17)), ("grey", (24, 16)), ("clear", (7, 50)), ("dot", (1, 1))):
        with Image.open(place / "TestPredictions" / f"{name}.png") as mask:
            assert mask.mode == "P" and mask.size == size and np.array(mask).max() < 3
            assert mask.getpalette()[3:6] == [255, 0, 0]
        assert (place / "TestPredictions" / f"{name}_overlay.png").exists()
    with open(place / "TestPredictions" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == ["a.png", "clear.png", "dot.png", "grey.png"]
    for row in rows:
        assert sum(float(row[name]) for name in ("ground", "red", "blue")) == pytest.approx(
            1, abs=2e-4
        )
        assert 1 / 3 <= float(row["mean_confidence"]) <= 1


def test_what_a_kill_left_half_written_is_swept_away_a_day_later(place):
    save(place, "a.png")
    predictions = place / "TestPredictions"
    predictions.mkdir()
    for name in (".a.png.12.tmp", ".a_overlay.png.12.tmp", ".b.png.12.tmp", ".a.png.13.tmp"):
        (predictions / name).touch()
        if name != ".a.png.13.tmp":  # another run may be at it
            os.utime(predictions / name, (0, 0))
    inference.main()
    left = {path.name for path in predictions.glob(".*")}
    assert left == {".b.png.12.tmp", ".a.png.13.tmp"}


def test_row_26_the_same_picture_twice_gives_the_same_mask(place, monkeypatch):
    save(place, "a.png")
    monkeypatch.setattr(inference, "overwrite", True)
    masks = []
    for _ in range(2):
        inference.main()
        masks.append((place / "TestPredictions" / "a.png").read_bytes())
    assert masks[0] == masks[1]


def test_row_25_inference_sees_a_picture_as_training_does(place, monkeypatch):
    save(place, "a.png")
    seen = []
    real = UNet.forward
    monkeypatch.setattr(
        UNet, "forward", lambda self, images: seen.append(images) or real(self, images)
    )
    inference.main()
    expected = resize_image(read_image(place / "TestImages" / "a.png"), (16, 24))
    assert np.array_equal(seen[0][0].permute(1, 2, 0).numpy(), expected)


def test_uncertainty_is_drawn_and_reported_and_the_same_every_time(place, monkeypatch):
    for name in ("a.png", "b.png"):
        save(place, name)
    monkeypatch.setattr(inference, "uncertainty_passes", 5)
    monkeypatch.setattr(inference, "overwrite", True)
    assert inference.main() == 0
    out = place / "TestPredictions"
    first = (out / "a_uncertainty.png").read_bytes()
    with Image.open(out / "a_uncertainty.png") as picture:
        assert picture.size[0] == max(60, 200) and picture.size[1] > 20
    with open(out / "uncertainty.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and sum(float(row["share"]) for row in rows) == pytest.approx(1, abs=1e-3)
    assert all(0 < float(row["epistemic"]) < float(row["total"]) <= np.log(3) for row in rows)
    assert inference.main() == 0
    assert (out / "a_uncertainty.png").read_bytes() == first


def test_uncertainty_worked_out_pass_by_pass(place, monkeypatch):
    monkeypatch.setattr(inference, "uncertainty_passes", 4)
    model = inference.load_model(
        utils.load_checkpoint(Path("unet_model.pth")), Place("cpu", "fp32")
    )
    assert not model.training and all(
        not part.training for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)
    )
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    (found,) = inference.predict(model, [(16, 24)], image[None], Place("cpu", "fp32"))
    total, epistemic = found.uncertainty
    torch.manual_seed(0)
    with torch.no_grad():
        probs = np.stack(
            [
                model(torch.from_numpy(image).permute(2, 0, 1)[None]).softmax(1)[0].numpy()
                for _ in range(4)
            ]
        )  # (N, K, H, W)
    mean = probs.mean(0)
    expected_total, aleatoric = (
        -(mean * np.log(mean)).sum(0),
        -(probs * np.log(probs)).sum(1).mean(0),
    )
    assert np.allclose(total, expected_total, atol=1e-5) and np.allclose(
        epistemic, expected_total - aleatoric, atol=1e-5
    )
    assert np.array_equal(found.ids, mean.argmax(0)) and found.confidence == pytest.approx(
        mean.max(0).mean(), abs=1e-5
    )
    for i, value in enumerate((np.ones((16, 24)), total, epistemic)):
        assert np.allclose(
            found.sums[i], [value[found.ids == label].sum() for label in range(3)], atol=1e-4
        )
    assert epistemic.max() > 0


def test_uncertainty_without_dropout_is_refused_with_the_cure(place, monkeypatch):
    weights = UNet(3, features=[4]).state_dict()
    model = dict(architecture="unet", num_classes=3, features=[4])
    utils.save_checkpoint(
        Path("unet_model.pth"),
        {
            "format": 1,
            "model": model,
            "weights": weights,
            "classes": CLASSES,
            "image_size": [16, 24],
        },
    )
    save(place, "a.png")
    monkeypatch.setattr(inference, "uncertainty_passes", 5)
    with pytest.raises(InputError, match="trained without dropout"):
        inference.main()


def test_row_17_weights_that_do_not_fit_their_net_are_refused(place):
    saved = utils.load_checkpoint(Path("unet_model.pth"))
    saved["model"]["features"] = [8, 8]
    utils.save_checkpoint(Path("unet_model.pth"), saved)
    save(place, "a.png")
    with pytest.raises(InputError, match="unet_model.pth does not fit the net that it describes"):
        inference.main()


@pytest.mark.parametrize("size", [(1, 1), (33, 200), (64, 65), (150, 97), (129, 64)])
@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(padded=False),
        dict(patch=2),
        dict(down="conv", up="nearest"),
        dict(architecture="unet++", deep_supervision=True),
    ],
    ids=str,
)
def test_row_23_tiles_give_what_the_whole_picture_gives(place, monkeypatch, size, options):
    torch.manual_seed(0)
    arguments = {"architecture": "unet", "num_classes": 4, "features": [4, 8, 8], **options}
    model = build_model(**arguments)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.uniform_(-1, 1)
            part.running_var.uniform_(0.5, 2)
    model.eval()
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    images = torch.from_numpy(image).permute(2, 0, 1)[None]
    where = Place("cpu", "fp32")
    monkeypatch.setattr(tiles, "TILE", 32)

    def looks(images):
        return inference.looks(model, images)

    with torch.no_grad():
        ((_, (whole,)),) = tiles.logit_strips(model, looks, images, where, tile=False)
        strips = tiles.logit_strips(model, looks, images, where, tile=True)
        parts = [(top, logits) for top, (logits,) in strips]
    for (top, logits), (following, _) in zip(parts, parts[1:]):
        assert following == top + 32 and logits.shape[2] == 33
    tiled = torch.cat([*(logits[:, :, :32] for _, logits in parts[:-1]), parts[-1][1]], 2)
    assert tiled.shape == whole.shape and torch.allclose(tiled, whole, atol=1e-4)
    monkeypatch.setattr(tiles, "LARGE", 32**2)  # in training the large ones are cut by themselves
    with torch.no_grad():
        assert torch.allclose(tiles.whole_logits(model, images, where), whole, atol=1e-4)
    monkeypatch.setattr(tiles, "LARGE", 2**20)
    for scale in (1.0, 0.61):
        small = resize_image(image, [max(1, round(side * scale)) for side in size])
        results = []
        for tile in (False, True):
            monkeypatch.setattr(inference, "tile", tile)
            results += inference.predict(model, [size], small[None], where)
        whole, tiled = results
        assert (
            whole.ids.shape == size
            and (whole.ids != tiled.ids).mean() < 1e-3
            and whole.confidence == pytest.approx(tiled.confidence, abs=1e-4)
        )


@pytest.mark.parametrize("patch, passes", [(1, 16), (2, 1)])
def test_a_picture_is_large_by_what_the_net_computes(monkeypatch, patch, passes):
    """Squares of 2×2 pixels are one to the net: four times as many pixels go through it at once."""
    model = build_model("unet", num_classes=2, features=[4, 8], patch=patch).eval()
    count = []
    model.register_forward_hook(lambda *_: count.append(1))
    monkeypatch.setattr(tiles, "TILE", 16)
    monkeypatch.setattr(tiles, "LARGE", 32**2)
    with torch.no_grad():
        tiles.whole_logits(model, torch.zeros(1, 3, 64, 64), Place("cpu", "fp32"))
    assert len(count) == passes


def test_batch_norm_is_folded_into_the_convolutions_and_changes_nothing(place):
    for options in (
        dict(architecture="unet", bias=False),
        dict(architecture="unet++", dropout=0.2, activation="leaky_relu"),
    ):
        arguments = {"num_classes": 4, "features": [4, 8], **options}
        torch.manual_seed(0)
        model = build_model(**arguments)
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                for values in (part.running_mean, part.weight.data, part.bias.data):
                    values.uniform_(-1, 1)
                part.running_var.uniform_(0.5, 2)
        images = torch.randint(0, 256, (2, 3, 20, 28), dtype=torch.uint8)
        folded = inference.load_model(
            {"model": arguments, "weights": model.state_dict()}, Place("cpu", "fp32")
        )
        assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
        with torch.no_grad():
            assert torch.allclose(folded(images), model.eval()(images), atol=1e-4)


def test_tta_is_the_mean_of_six_looks(place, monkeypatch):
    monkeypatch.setattr(inference, "tta", True)
    model = inference.load_model(
        utils.load_checkpoint(Path("unet_model.pth")), Place("cpu", "fp32")
    )
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3)).astype(np.uint8)
    (found,) = inference.predict(model, [(16, 24)], image, Place("cpu", "fp32"))
    probs = []
    for size in ((16, 24), (12, 18), (20, 30)):
        scaled = torch.nn.functional.interpolate(
            torch.from_numpy(image).permute(0, 3, 1, 2).float(),
            size=size,
            mode="bilinear",
            antialias=True,
        )
        for flipped in (False, True):
            with torch.no_grad():
                logits = model(scaled.flip(3) if flipped else scaled)
            logits = torch.nn.functional.interpolate(
                logits.flip(3) if flipped else logits, size=(16, 24), mode="bilinear"
            )
            probs.append(logits.softmax(1))
    mean = torch.stack(probs).mean(0)[0]
    assert np.array_equal(found.ids, mean.argmax(0).numpy()) and found.confidence == pytest.approx(
        mean.max(0).values.mean().item(), abs=1e-5
    )
    (mirrored,) = inference.predict(
        model, [(16, 24)], image[:, :, ::-1].copy(), Place("cpu", "fp32")
    )
    assert (
        mirrored.ids[:, ::-1] != found.ids
    ).mean() < 0.02  # what is seen mirrored is found mirrored


def test_tta_and_uncertainty_exclude_each_other(place, monkeypatch):
    monkeypatch.setattr(inference, "tta", True)
    monkeypatch.setattr(inference, "uncertainty_passes", 2)
    with pytest.raises(InputError, match="tta is True and uncertainty_passes is above 0"):
        inference.main()


def test_a_picture_of_another_folder_is_not_taken_for_one_coloured_before(place, monkeypatch):
    for seed, folder in enumerate(("left", "right")):
        (place / folder).mkdir()
        noise = np.random.default_rng(seed).integers(0, 256, (20, 30, 3)).astype(np.uint8)
        Image.fromarray(noise).save(place / folder / "0001.bmp")
        os.utime(place / folder / "0001.bmp", (1e9, 1e9))
    masks = []
    for folder in ("left", "right"):
        monkeypatch.setattr(inference, "input_dir", str(place / folder))
        inference.main()
        with Image.open(place / "TestPredictions" / "0001.png") as mask:
            masks.append(np.array(mask))
    assert not np.array_equal(*masks)
