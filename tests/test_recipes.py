"""Every recipe trains, judges and predicts on a tiny data set laid out as its owners do, and
learns it by heart."""

import json
import math
import runpy
from pathlib import Path

from toolbox.machine import Place
from toolbox.settings import override, settings_of

import layouts
import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

import inference
import train

RECIPES = sorted((ROOT / "recipes").glob("*.py"))
MAKERS = {
    "cityscapes24": layouts.make_cityscapes,
    "cityscapes34": layouts.make_cityscapes,
    "carvana": layouts.make_carvana,
    "gta5": layouts.make_gta5,
    "voc2007": lambda root: layouts.make_voc(root, "2007", ("train", "val", "test")),
    "voc2012": lambda root: layouts.make_voc(root, "2012"),
    "camvid": layouts.make_camvid,
}
SHORT = dict(
    image_size=(48, 48),
    features=(16, 32),
    batch_size=4,
    accum_steps=1,
    training_iterations=240,
    base_lr=8e-3,
    min_lr=1e-4,
    warmup_steps=10,
    decay_factor=4e6,
    eval_interval=60,
    eval_iterations=0,
    save_model_interval=240,
    num_workers=0,
    device="cpu",
    precision="fp32",
    patience=0,
    training_scale=1.0,
    crop_size=(0, 0),
    ema_decay=0.0,
    augment_strength=1.0,
    weight_decay=0.01,
)  # what keeps from learning by heart is not asked for


def test_the_published_systems_all_have_a_recipe():
    named = {path.stem for path in RECIPES}
    assert named == {
        "cityscapes",
        "carvana",
        "carvana_unpadded",
        "voc2007",
        "voc2012",
        "gta5",
        "unet_strided",
        "unetpp",
        "camvid",
        "camvid_small",
        "camvid_two_hours",
    }


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_where_it_comes_from_and_sets_constants_that_exist(recipe, monkeypatch):
    for name, value in settings_of(vars(train)).items():
        monkeypatch.setattr(train, name, value)
    override(vars(train), [str(recipe)])
    monkeypatch.setattr(train, "num_workers", 0)
    train.check_settings()
    assert train.optimizer == (
        "muon" if recipe.stem.startswith("camvid") else "adamw"
    )  # the published systems' own
    assert len(runpy.run_path(str(recipe))["__doc__"]) > 150


def test_camvid_small_asks_a_third_of_a_chip_that_has_no_bf16(monkeypatch):
    work = {}
    for precision in ("fp32", "bf16"):
        monkeypatch.setattr(Place, "best_precision", lambda self, precision=precision: precision)
        constants = runpy.run_path(str(ROOT / "recipes" / "camvid_small.py"))
        work[precision] = constants["training_iterations"] * math.prod(constants["image_size"])
    assert 0.25 < work["fp32"] / work["bf16"] < 0.35, work  # 0.66 s a step on an Ice Lake


@pytest.mark.parametrize("precision, size", [("fp32", (256, 384)), ("bf16", (360, 480))])
def test_camvid_small_hears_the_runs_precision_wherever_it_stands(precision, size):
    recipe, *words = (
        str(ROOT / "recipes" / "camvid_small.py"),
        "device=cpu",
        f"precision={precision}",
    )
    for arguments in ([recipe, *words], [*words, recipe]):
        constants = settings_of(vars(train))
        override(constants, arguments)
        assert constants["image_size"] == size
        assert (constants["device"], constants["precision"]) == ("cpu", precision)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_learns_a_tiny_data_set_by_heart_and_colours_its_pictures(
    recipe, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name, value in settings_of(vars(train)).items():
        monkeypatch.setattr(train, name, value)
    override(vars(train), [str(recipe)])
    MAKERS[train.dataset](tmp_path / "data")
    own = dict(data_dir=str(tmp_path / "data"), run_dir="run")
    if np.max(train.dropout) >= 0.5:  # half of what it learns by is dropped: it takes longer
        own["training_iterations"] = 360
    for name, value in {**SHORT, **own}.items():
        monkeypatch.setattr(train, name, value)
    train.main()
    report = json.loads(Path("run/report.json").read_text())
    assert report["train"]["mean_iou"] > 0.9, report["train"]

    pictures = [
        path
        for pattern in ("*.jpg", "*.png")
        for path in sorted((tmp_path / "data").rglob(pattern))
        if "mask" not in path.name
    ][:2]
    Path("pictures").mkdir()
    for path in pictures:
        (Path("pictures") / path.name).write_bytes(path.read_bytes())
    for name, value in dict(
        checkpoint="unet_model.pth",
        input_dir="pictures",
        output_dir="out",
        device="cpu",
        precision="fp32",
    ).items():
        monkeypatch.setattr(inference, name, value)
    monkeypatch.setattr(inference, "uncertainty_passes", 2 if "unet" in recipe.stem else 0)
    assert inference.main() == 0
    for path in pictures:
        with Image.open(path) as picture, Image.open(Path("out") / f"{path.stem}.png") as ids:
            assert ids.size == picture.size and np.array(ids).max() < len(
                report["train"]["classes"]
            )
