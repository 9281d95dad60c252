import csv
import hashlib
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

import inference
import utils
from model import UNet

CLASSES = [
    {"name": "ground", "color": [0, 0, 0]},
    {"name": "red", "color": [255, 0, 0]},
    {"name": "blue", "color": [0, 0, 255]},
]


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with a checkpoint and an empty TestImages, and inference.py's constants as they are."""
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


def test_row_26_the_same_picture_twice_gives_the_same_mask(place, monkeypatch):
    save(place, "a.png")
    monkeypatch.setattr(inference, "overwrite", True)
    masks = []
    for _ in range(2):
        inference.main()
        masks.append((place / "TestPredictions" / "a.png").read_bytes())
    assert masks[0] == masks[1]


def test_row_25_inference_sees_a_picture_as_training_does(place, monkeypatch):
    from dataset import read_image, resize_image

    save(place, "a.png")
    seen = []
    real = UNet.forward
    monkeypatch.setattr(
        UNet, "forward", lambda self, images: seen.append(images) or real(self, images)
    )
    inference.main()
    expected = resize_image(read_image(place / "TestImages" / "a.png"), (16, 24))
    assert np.array_equal(seen[0][0].permute(1, 2, 0).numpy(), expected)


def test_row_28_inputs_stay_and_nothing_shares_an_output(place, capsys):
    for name in ("cat.jpg", "cat.png", "Cat.gif", "cat_overlay.png", "dog.png"):
        save(place, name)
    before = {
        path: hashlib.sha256(path.read_bytes()).digest()
        for path in (place / "TestImages").iterdir()
    }
    (place / "TestPredictions").mkdir()
    (place / "TestPredictions" / "earlier.png").write_bytes(b"kept")
    assert inference.main() == 0
    assert before == {
        path: hashlib.sha256(path.read_bytes()).digest()
        for path in (place / "TestImages").iterdir()
    }
    written = sorted(path.name for path in (place / "TestPredictions").iterdir())
    assert (
        len([name for name in written if name.endswith(".png")]) == 2 * 5 + 1
        and "dog.png" in written
        and "earlier.png" in written
    )


def test_row_28_files_that_inference_has_not_written_are_never_written_over(place, monkeypatch):
    save(place, "a.png")
    (place / "TestPredictions").mkdir()
    monkeypatch.setattr(inference, "uncertainty_passes", 1)
    for name in ("a.png", "a_overlay.png", "predictions.csv", "uncertainty.csv"):
        by_hand = place / "TestPredictions" / name
        by_hand.write_bytes((place / "TestImages" / "a.png").read_bytes())
        monkeypatch.setattr(inference, "overwrite", True)
        with pytest.raises(
            utils.InputError, match=f"{name} would be written over and is not from inference.py"
        ):
            inference.main()
        assert by_hand.read_bytes() == (place / "TestImages" / "a.png").read_bytes()
        by_hand.unlink()
    assert inference.main() == 0 and inference.main() == 0


def test_a_name_too_long_for_what_is_added_to_it_is_named_and_the_others_go_on(place, capsys):
    save(place, "a.png")
    save(place, f"{'b' * 245}.png")
    save(place, "c.png")
    assert inference.main() == 1
    said = capsys.readouterr()
    assert "bbb.png has too long a name" in said.err and "2 of 3" in said.out


def test_names_never_meet_whatever_the_pictures_are_called():
    files = [
        Path(name)
        for name in (
            "a.jpg",
            "a.png",
            "a.jpg.png",
            "A.PNG",
            "a_overlay.png",
            "b.png",
            "b_overlay.jpg",
            "b_overlay_.jpg",
        )
    ]
    names = inference.name_outputs(files)
    outputs = [
        f"{name}{end}".lower() for name in names.values() for end in (".png", "_overlay.png")
    ]
    assert len(set(outputs)) == 2 * len(files)


def test_a_bad_picture_is_named_and_the_others_go_on(place, capsys):
    save(place, "good.png")
    (place / "TestImages" / "bad.png").write_bytes(b"torn")
    (place / "TestImages" / "folder.png").mkdir()
    assert inference.main() == 1
    said = capsys.readouterr()
    assert (
        "bad.png can't be read" in said.err
        and "folder.png can't be read" in said.err
        and "1 of 3" in said.out
    )
    assert (place / "TestPredictions" / "good.png").exists()


def test_a_folder_that_is_missing_empty_or_the_same_is_named(place, monkeypatch):
    with pytest.raises(utils.InputError, match="no pictures in"):
        inference.main()
    monkeypatch.setattr(inference, "output_dir", inference.input_dir)
    save(place, "a.png")
    with pytest.raises(utils.InputError, match="as input_dir is"):
        inference.main()
    monkeypatch.setattr(inference, "input_dir", "nowhere")
    with pytest.raises(utils.InputError, match="nowhere is not there"):
        inference.main()


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
        utils.load_checkpoint(Path("unet_model.pth")), utils.Place("cpu", "fp32")
    )
    assert not model.training and all(
        not part.training for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)
    )
    image = np.random.default_rng(0).integers(0, 256, (16, 24, 3)).astype(np.uint8)
    (found,) = inference.predict(model, [(16, 24)], image[None], utils.Place("cpu", "fp32"))
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
    with pytest.raises(inference.InputError, match="trained without dropout"):
        inference.main()


def test_row_17_weights_that_do_not_fit_their_net_are_refused(place):
    saved = utils.load_checkpoint(Path("unet_model.pth"))
    saved["model"]["features"] = [8, 8]
    utils.save_checkpoint(Path("unet_model.pth"), saved)
    save(place, "a.png")
    with pytest.raises(
        inference.InputError, match="unet_model.pth does not fit the net that it describes"
    ):
        inference.main()


def test_a_full_or_closed_output_folder_ends_in_a_sentence(place, monkeypatch):
    save(place, "a.png")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        inference.InputError,
        match="a_overlay.png can't be written .No space left on device.; what was there before is as it was",
    ):
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
    model = inference.build_model(**arguments)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.uniform_(-1, 1)
            part.running_var.uniform_(0.5, 2)
    model.eval()
    image = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
    where = utils.Place("cpu", "fp32")
    with torch.no_grad():
        ((_, (whole,)),) = inference.logit_strips(model, image[None], where)
        monkeypatch.setattr(inference, "tile", True)
        monkeypatch.setattr(inference, "TILE", 32)
        parts = [
            (top, logits) for top, (logits,) in inference.logit_strips(model, image[None], where)
        ]
    for (top, logits), (following, _) in zip(parts, parts[1:]):
        assert following == top + 32 and logits.shape[2] == 33
    tiled = torch.cat([*(logits[:, :, :32] for _, logits in parts[:-1]), parts[-1][1]], 2)
    assert tiled.shape == whole.shape and torch.allclose(tiled, whole, atol=1e-4)
    for scale in (1.0, 0.61):
        small = inference.resize_image(image, [max(1, round(side * scale)) for side in size])
        results = []
        for tiles in (False, True):
            monkeypatch.setattr(inference, "tile", tiles)
            results += inference.predict(model, [size], small[None], where)
        whole, tiled = results
        assert (
            whole.ids.shape == size
            and (whole.ids != tiled.ids).mean() < 1e-3
            and whole.confidence == pytest.approx(tiled.confidence, abs=1e-4)
        )


def test_batch_norm_is_folded_into_the_convolutions_and_changes_nothing(place):
    for options in (
        dict(architecture="unet", bias=False),
        dict(architecture="unet++", dropout=0.2, activation="leaky_relu"),
    ):
        arguments = {"num_classes": 4, "features": [4, 8], **options}
        torch.manual_seed(0)
        model = inference.build_model(**arguments)
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                for values in (part.running_mean, part.weight.data, part.bias.data):
                    values.uniform_(-1, 1)
                part.running_var.uniform_(0.5, 2)
        images = torch.randint(0, 256, (2, 3, 20, 28), dtype=torch.uint8)
        folded = inference.load_model(
            {"model": arguments, "weights": model.state_dict()}, utils.Place("cpu", "fp32")
        )
        assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in folded.modules())
        with torch.no_grad():
            assert torch.allclose(folded(images), model.eval()(images), atol=1e-4)


def outputs(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (place / "TestPredictions").iterdir()}


@pytest.mark.parametrize("tile", [False, True])
def test_batches_and_threads_give_what_one_picture_at_a_time_gives(place, monkeypatch, tile):
    saved = utils.load_checkpoint(Path("unet_model.pth"))
    utils.save_checkpoint(Path("unet_model.pth"), {**saved, "scale": 0.7})
    monkeypatch.setattr(inference, "tile", tile)
    monkeypatch.setattr(inference, "overwrite", True)
    for i in range(9):
        save(place, f"{i}.png", size=[(30, 20), (20, 30), (300, 210)][i % 4 % 3])
    (place / "TestImages" / "torn.png").write_bytes(b"torn")
    found = []
    for batch, at_once in (
        (4, 64_000_000),
        (1, 64_000_000),
        (4, 1000),
    ):  # in the last each picture is too big for company
        monkeypatch.setattr(inference, "batch_size", batch)
        monkeypatch.setattr(inference, "AT_ONCE", at_once)
        assert inference.main() == 1
        found.append(outputs(place))
    assert len(found[0]) == 2 * 9 + 1 and found[0].keys() == found[1].keys() == found[2].keys()
    for name in (name for name in found[0] if name.endswith(".png")):
        pictures = [
            np.array(Image.open(io.BytesIO(files[name])).convert("RGB")).astype(int)
            for files in found
        ]
        assert (pictures[0] != pictures[1]).mean() < 1e-3 and (
            pictures[0] != pictures[2]
        ).mean() < 1e-3


def test_too_little_memory_for_a_batch_means_one_by_one_and_for_one_is_said(
    place, monkeypatch, capsys
):
    for i in range(3):
        save(place, f"{i}.png", size=(30, 20 + i))
    real, sizes = inference.predict, []

    def predict(model, shapes, small, where):
        sizes.append(len(small))
        if len(small) > 1 or shapes == [(21, 30)]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(model, shapes, small, where)

    monkeypatch.setattr(inference, "predict", predict)
    assert inference.main() == 1
    said = capsys.readouterr()
    assert (
        sizes == [3, 1, 1, 1]
        and "1.png is too big for the memory of cpu" in said.err
        and "2 of 3 pictures coloured" in said.out
    )
    monkeypatch.setattr(inference, "predict", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        inference.main()


def test_what_was_coloured_before_is_left_until_picture_checkpoint_or_settings_change(
    place, monkeypatch, capsys
):
    for name in ("a.png", "b.png", "c.png"):
        save(place, name)
    real, done = inference.write, []
    monkeypatch.setattr(
        inference, "write", lambda job, *rest: done.append(job.path.name) or real(job, *rest)
    )

    def run(expected: str, **settings) -> None:
        for name, value in settings.items():
            monkeypatch.setattr(inference, name, value)
        done.clear()
        assert inference.main() == 0 and "".join(sorted(done)).replace(".png", "") == expected

    run("abc")
    first = outputs(place)
    run("")
    assert (
        outputs(place) == first
        and "3 of them before (overwrite=true does them again)" in capsys.readouterr().out
    )
    (place / "TestPredictions" / "a.png").unlink()
    (place / "TestPredictions" / "b_overlay.png").write_bytes(b"torn")
    (place / "TestPredictions" / "c_overlay.png").unlink()
    run("abc")
    save(place, "b.png", size=(31, 20))
    run("b")
    run("abc", overwrite=True)
    assert outputs(place).keys() == first.keys()
    run("abc", overwrite=False, uncertainty_passes=2)
    run("abc", uncertainty_passes=0, overlay=False)
    run("abc", overlay=True)
    run("abc", tta=True)
    run("abc", tta=False)
    saved = utils.load_checkpoint(Path("unet_model.pth"))
    saved["weights"]["head.bias"] += 1
    utils.save_checkpoint(Path("unet_model.pth"), saved)
    run("abc")


@pytest.mark.skipif(
    sys.platform != "linux", reason="peak memory is counted in other units elsewhere"
)
def test_a_big_picture_takes_memory_for_itself_and_a_strip(place):
    """108 megapixels, decoded to 324 MB in numpy and 432 MB in Pillow; everything at once would take several times that."""
    save(place, "small.png")
    saved = utils.load_checkpoint(Path("unet_model.pth"))
    utils.save_checkpoint(Path("unet_model.pth"), {**saved, "scale": 0.5})

    def peak() -> float:
        code = (
            "import resource, sys; sys.path.insert(0, sys.argv[1]); import inference; inference.tile, inference.device = True, 'cpu'\n"
            "assert inference.main() == 0; print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=True
        )
        return int(done.stdout.split()[-1]) / 2**10

    alone = peak()
    Image.new("RGB", (12000, 9000), (90, 120, 150)).save(place / "TestImages" / "big.png")
    assert peak() - alone < 1000
    with (
        Image.open(place / "TestPredictions" / "big.png") as mask,
        Image.open(place / "TestPredictions" / "big_overlay.png") as overlay,
    ):
        assert mask.size == (12000, 9000) and overlay.size[0] == 4096


def test_tta_is_the_mean_of_six_looks(place, monkeypatch):
    monkeypatch.setattr(inference, "tta", True)
    model = inference.load_model(
        utils.load_checkpoint(Path("unet_model.pth")), utils.Place("cpu", "fp32")
    )
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3)).astype(np.uint8)
    (found,) = inference.predict(model, [(16, 24)], image, utils.Place("cpu", "fp32"))
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
        model, [(16, 24)], image[:, :, ::-1].copy(), utils.Place("cpu", "fp32")
    )
    assert (
        mirrored.ids[:, ::-1] != found.ids
    ).mean() < 0.02  # what is seen mirrored is found mirrored


def test_tta_and_uncertainty_exclude_each_other(place, monkeypatch):
    monkeypatch.setattr(inference, "tta", True)
    monkeypatch.setattr(inference, "uncertainty_passes", 2)
    with pytest.raises(inference.InputError, match="tta is True and uncertainty_passes is above 0"):
        inference.main()
