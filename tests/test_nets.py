"""A folder as a checkpoint: its nets are averaged, and each picture's key covers all of them."""

import csv
import hashlib
from pathlib import Path

from toolbox.errors import InputError
from toolbox.files import fingerprint
from toolbox.machine import Place
from toolbox.nets import files_of, read_all, together
from toolbox.outputs import origin_of
from toolbox.pictures import read_note

import numpy as np
import pytest
import torch
from test_inference import CLASSES, make_place, save

import inference
import utils
from model import UNet


def save_net(path: Path, seed: int, **changed) -> None:
    torch.manual_seed(seed)
    arguments = dict(architecture="unet", num_classes=3, in_channels=3, features=[4, 8])
    path.parent.mkdir(parents=True, exist_ok=True)
    saved = {
        "format": 1,
        "model": arguments,
        "weights": UNet(3, features=[4, 8]).state_dict(),
        "classes": CLASSES,
        "image_size": [16, 24],
        "scale": 0.5,
    }
    utils.save_checkpoint(path, {**saved, **changed})


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """As test_inference.py has it: one checkpoint, and an empty TestImages."""
    return make_place(tmp_path, monkeypatch)


@pytest.fixture
def folds(place) -> Path:
    for number in (1, 2, 3):
        save_net(Path(f"run/fold-{number}/best.pth"), number)
        Path(f"run/fold-{number}/last.pth").write_bytes(b"not looked at")
    return Path("run")


def test_a_folder_s_nets_give_the_mean_of_their_probabilities(folds):
    where = Place("cpu", "fp32")
    every = read_all("run", utils.load_checkpoint, tile=False)
    nets = together([inference.load_model(one, where) for one in every])
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 24, 3)).astype(np.uint8)
    (found,) = inference.predict(nets, [(16, 24)], image, where)
    tensor = torch.from_numpy(image).permute(0, 3, 1, 2)
    with torch.no_grad():
        probs = [net(tensor).softmax(1) for net in nets]
    mean = torch.stack(probs).mean(0)[0]
    assert len(probs) == 3 and np.array_equal(found.ids, mean.argmax(0).numpy())
    assert found.confidence == pytest.approx(mean.max(0).values.mean().item(), abs=1e-5)
    assert any((p[0].argmax(0) != mean.argmax(0)).any() for p in probs)


def test_pictures_are_coloured_anew_where_any_of_the_nets_is_another(
    folds, place, monkeypatch, capsys
):
    save(place, "a.png")
    monkeypatch.setattr(inference, "checkpoint", "run")
    out = place / "TestPredictions" / "a.png"
    assert inference.main() == 0
    assert "the mean of 3 nets: run/fold-1/best.pth, " in capsys.readouterr().out
    first = read_note(out, "key")
    assert inference.main() == 0
    assert "1 of 1 pictures coloured, 1 of them before" in capsys.readouterr().out
    save_net(Path("run/fold-3/best.pth"), 9)
    assert inference.main() == 0
    assert "before" not in capsys.readouterr().out and read_note(out, "key") != first


def test_nets_without_dropout_can_disagree_where_there_are_several(folds, place, monkeypatch):
    save(place, "a.png")
    monkeypatch.setattr(inference, "uncertainty_passes", 1)
    monkeypatch.setattr(inference, "checkpoint", "run/fold-1")
    with pytest.raises(InputError, match="run/fold-1 was trained without dropout"):
        inference.main()
    monkeypatch.setattr(inference, "checkpoint", "run")
    assert inference.main() == 0
    with open(place / "TestPredictions" / "uncertainty.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert rows and all(float(row["epistemic"]) > 0 for row in rows)


def test_which_checkpoints_a_path_names(folds):
    assert files_of(Path("unet_model.pth")) == [Path("unet_model.pth")]
    assert files_of(Path("run/fold-2")) == [Path("run/fold-2/best.pth")]
    assert files_of(folds) == [folds / f"fold-{number}" / "best.pth" for number in (1, 2, 3)]
    for name in ("b.pth", "a.pth", "last.pth"):
        save_net(Path("several") / name, 0)
    assert files_of(Path("several")) == [Path("several/a.pth"), Path("several/b.pth")]
    for name in ("plain/best.pth", "folded/fold-1/best.pth", "folded/fold-2/best.pth"):
        Path("runs", name).parent.mkdir(parents=True)
        Path("runs", name).touch()
    names = [path.as_posix() for path in files_of(Path("runs"))]
    assert names == [
        f"runs/{name}"
        for name in ("folded/fold-1/best.pth", "folded/fold-2/best.pth", "plain/best.pth")
    ]
    Path("empty").mkdir()
    with pytest.raises(InputError, match="checkpoint empty is a folder without any"):
        files_of(Path("empty"))


def test_nets_that_differ_are_refused_in_a_sentence(folds):
    other = folds / "fold-2" / "best.pth"
    save_net(other, 0, image_size=[16, 32])
    with pytest.raises(InputError, match=r"differ in image_size \(\[16, 24\] and \[16, 32\]\)"):
        read_all("run", utils.load_checkpoint, tile=False)
    save_net(other, 0, classes=[*CLASSES[:2], {"name": "green", "color": [0, 255, 0]}])
    with pytest.raises(InputError, match="fold-1/best.pth and run/fold-2/best.pth differ in class"):
        read_all("run", utils.load_checkpoint, tile=False)
    save_net(other, 0, scale=0.25)
    assert len(read_all("run", utils.load_checkpoint, tile=False)) == 3
    with pytest.raises(InputError, match=r"differ in scale \(0.5 and 0.25\)"):
        read_all("run", utils.load_checkpoint, tile=True)


def test_a_single_checkpoint_s_pictures_keep_the_key_that_they_had(place):
    """Worked out as it was before there were several."""
    saved = utils.load_checkpoint(Path("unet_model.pth"))
    weights = hashlib.sha256()
    for tensor in saved["weights"].values():
        weights.update(tensor.numpy().tobytes())
    expected = fingerprint(weights.hexdigest(), saved["classes"], saved.get("scale"), 1, "x")
    assert origin_of([saved], [1, "x"]) == expected
