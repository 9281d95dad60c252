"""Small data sets and a way to run train.py's main with constants of the test's own."""

import csv
import os
import shutil
import warnings
from pathlib import Path

# Tests side by side (-n 2) get one thread each: more would wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from PIL import Image

with warnings.catch_warnings():  # what other packages warn of while they are imported is theirs
    warnings.simplefilter("ignore")
    import segmentation_models_pytorch  # noqa: F401
    import torchmetrics  # noqa: F401

from toolbox import cache, findings, settings
from toolbox.machine import Place

import dataset
import train

ROOT = Path(__file__).resolve().parent.parent
TINY = dict(
    data_dir="Dataset",
    image_size=(16, 16),
    features=(4, 8),
    batch_size=2,
    training_iterations=4,
    training_scale=1.0,
    warmup_steps=1,
    eval_interval=2,
    eval_iterations=0,
    save_model_interval=2,
    device="cpu",
    precision="fp32",
    num_workers=0,
    cache=True,
    decay_factor=1.2e7,  # a rate of its step alone, so that training_iterations may change
)


def draw_squares(
    folder: Path, count: int, size: tuple[int, int] = (16, 16), table: bool = True, seed: int = 0
) -> Path:
    """Pictures of a red and a blue square on grey, with masks of the classes 0, 1, 2."""
    rng = np.random.default_rng(seed)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image, mask = rng.integers(90, 140, (*size, 3)).astype(np.uint8), np.zeros(size, np.uint8)
        for label, color in ((1, (220, 30, 30)), (2, (30, 30, 220))):
            y, x = rng.integers(0, size[0] - 6), rng.integers(0, size[1] - 6)
            image[y : y + 6, x : x + 6], mask[y : y + 6, x : x + 6] = color, label
        Image.fromarray(image).save(folder / "images" / f"p{i}.png")
        Image.fromarray(mask).save(folder / "masks" / f"p{i}.png")
    if table:
        with open(folder / "classes.csv", "w", newline="") as file:
            csv.writer(file).writerows(
                [
                    ["id", "name", "red", "green", "blue"],
                    [0, "ground", 0, 0, 0],
                    [1, "red", 255, 0, 0],
                    [2, "blue", 0, 0, 255],
                ]
            )
    return folder


def move_into_splits(folder: Path) -> None:
    """Of five squares three are to be trained on, one validates, one tests."""
    for split, numbers in (("train", (0, 1, 2)), ("val", (3,)), ("test", (4,))):
        for name in ("images", "masks"):
            (folder / name / split).mkdir()
            for i in numbers:
                (folder / name / f"p{i}.png").rename(folder / name / split / f"p{i}.png")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "CACHE", tmp_path / "cache")
    if Path.cwd() == ROOT:  # where a test has no folder of its own, lists of problems go to its
        monkeypatch.setattr(findings, "OUTPUT", str(tmp_path / "TrainingOutput"))


@pytest.fixture(autouse=True)
def own_chance():
    torch.manual_seed(0)  # whatever ran before


@pytest.fixture
def project(tmp_path):
    """A copy of the project, to run scripts in as a user does, with a Streets of eight small
    pictures."""
    copy = tmp_path / "project"
    (copy / "Dataset").mkdir(parents=True)
    for path in ROOT.glob("*.py"):
        shutil.copy(path, copy)
    left_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "toolbox", copy / "toolbox", ignore=left_out)
    text = (ROOT / "Dataset" / "make_streets.py").read_text(encoding="utf-8")
    text = text.replace("PICTURES = 500", "PICTURES = 8")
    text = text.replace("SIZE = (144, 232)", "SIZE = (36, 58)")
    (copy / "Dataset" / "make_streets.py").write_text(text, encoding="utf-8")
    return copy


@pytest.fixture
def make_training(tmp_path, monkeypatch):
    """A train.Training with these constants, on squares, that has not taken a step."""

    def make(**constants) -> train.Training:
        data_set = draw_squares(tmp_path / "squares", 6)
        for name, value in {**TINY, **constants, "dataset": str(data_set)}.items():
            monkeypatch.setattr(train, name, value)
        data = dataset.prepare(str(data_set), "", train.image_size)
        return train.Training(data, Place("cpu", "fp32"))

    return make


@pytest.fixture
def run_train(tmp_path, monkeypatch):
    """Run train.main() in an empty folder with these constants; returns that folder."""
    monkeypatch.chdir(tmp_path)
    defaults = settings.settings_of(vars(train))

    def run(**constants) -> Path:
        for name, value in {**defaults, **TINY, **constants}.items():
            monkeypatch.setattr(train, name, value)
        run.status = train.main()
        return tmp_path

    return run
