import csv
import json
import math
import os
import subprocess
import sys

import albumentations
import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, draw_squares
from PIL import Image

import train
import utils
from dataset import IGNORE, InputError
from model import UNet, build_model


def read_history(path) -> list[dict]:
    with open(path, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_a_run_leaves_everything_that_it_should(run_train, tmp_path, capsys):
    draw_squares(tmp_path / "own", 10, size=(20, 28))
    run_train(dataset="own", run_dir="run")
    run = tmp_path / "run"
    names = {str(path.relative_to(run)) for path in run.rglob("*") if path.is_file()}
    assert names == {
        "best.pth",
        "last.pth",
        "history.csv",
        "curves.png",
        "learning_rate.png",
        "confusion.png",
        "report.json",
        "learning.png",
        "worst.png",
        "classes.png",
        "predictions/step_000002.png",
        "predictions/step_000004.png",
    }
    history = read_history(run / "history.csv")
    assert list(history[0]) == [
        "step",
        "images_seen",
        "seconds",
        "learning_rate",
        "train_loss",
        "train_pixel_accuracy",
        "train_mean_iou",
        "val_loss",
        "val_pixel_accuracy",
        "val_mean_iou",
    ]
    assert [row["step"] for row in history] == [2, 4]
    assert [row["images_seen"] for row in history] == [4, 8]

    report = json.loads((run / "report.json").read_text())
    assert {
        "train",
        "val",
        "test",
        "seconds",
        "images_per_second",
        "parameters",
        "device",
        "precision",
    } <= report.keys()
    for split, pictures in (("train", 6), ("val", 2), ("test", 2)):
        assert {"pixel_accuracy", "mean_iou", "mean_dice", "classes", "baseline"} == report[
            split
        ].keys()
        assert [entry["name"] for entry in report[split]["classes"]] == ["ground", "red", "blue"]
        assert sum(entry["share"] for entry in report[split]["classes"]) == pytest.approx(1)
        assert report[split]["baseline"]["class"] == "ground"

    saved = torch.load(tmp_path / "unet_model.pth", weights_only=True)
    assert {
        "format",
        "model",
        "weights",
        "classes",
        "image_size",
        "scale",
        "step",
        "metrics",
        "constants",
    } == saved.keys()
    assert (
        saved["format"] == 1
        and saved["classes"][1] == {"name": "red", "color": [255, 0, 0]}
        and saved["image_size"] == [16, 16]
    )
    assert (
        saved["scale"] == pytest.approx((256 / 560) ** 0.5)
        and saved["constants"]["dataset"] == "own"
    )
    build_model(**saved["model"]).load_state_dict(saved["weights"])  # row 17: it describes itself
    best = max(history, key=lambda row: row["val_mean_iou"])
    assert saved["step"] == best["step"] and saved["metrics"]["val_mean_iou"] == pytest.approx(
        best["val_mean_iou"]
    )
    assert "mean IoU" in capsys.readouterr().out


def test_the_report_is_counted_at_each_masks_own_size(run_train, tmp_path):
    draw_squares(tmp_path / "own", 10, size=(20, 28))
    run_train(dataset="own", run_dir="run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    saved = utils.load_checkpoint(tmp_path / "unet_model.pth")
    model = build_model(**saved["model"])
    model.load_state_dict(saved["weights"])
    model.eval()
    data = train.prepare("own", "Dataset", (16, 16))
    matrix = utils.ConfusionMatrix(3)
    for row in data.splits["test"]:
        image = torch.from_numpy(data.read(row)[0]).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits = torch.nn.functional.interpolate(model(image), size=(20, 28), mode="bilinear")
        with Image.open(data.pairs[row].mask) as mask:
            matrix.update(logits.argmax(1)[0], torch.from_numpy(np.array(mask)))
    assert matrix.report(data.table.names) == report["test"]


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_row_8_scores_do_not_depend_on_the_batch_size_nor_on_a_short_last_batch(
    run_train, tmp_path, batch
):
    draw_squares(tmp_path / "own", 10)
    run_train(dataset="own", run_dir="run", eval_iterations=0)
    training = train.Training(train.prepare("own", "Dataset", (16, 16)), utils.Place("cpu", "fp32"))
    training.load(tmp_path / "run")
    train.batch_size = batch
    scores = train.evaluate(
        training.judged, training.splits["train"], training.loss_of, training.place
    )
    report = train.judge(training.judged, training.splits["train"], training.place, "train")[
        0
    ].report(["a", "b", "c"])
    train.batch_size = 2
    assert scores == pytest.approx(
        train.evaluate(training.judged, training.splits["train"], training.loss_of, training.place),
        rel=1e-5,
    )
    assert report == train.judge(
        training.judged, training.splits["train"], training.place, "train"
    )[0].report(["a", "b", "c"])
    assert (
        sum(training.data.pixels[row, :3].sum() for row in training.splits["train"].rows) == 6 * 256
    )


def move_into_splits(folder) -> None:
    """Of five squares three are to be trained on, one validates, one tests."""
    for split, numbers in (("train", (0, 1, 2)), ("val", (3,)), ("test", (4,))):
        for name in ("images", "masks"):
            (folder / name / split).mkdir()
            for i in numbers:
                (folder / name / f"p{i}.png").rename(folder / name / split / f"p{i}.png")


def test_row_8_a_split_of_one_picture_with_one_class_has_scores_for_that_class_alone(
    run_train, tmp_path
):
    draw_squares(tmp_path / "own", 5)
    move_into_splits(tmp_path / "own")
    Image.fromarray(np.full((16, 16), 1, np.uint8)).save(
        tmp_path / "own" / "masks" / "test" / "p4.png"
    )
    run_train(dataset="own", run_dir="run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())["test"]
    assert [entry["iou"] is None for entry in report["classes"]] == [True, False, True]
    assert (
        report["mean_iou"] == report["classes"][1]["iou"] == report["pixel_accuracy"]
        and report["baseline"]["mean_iou"] == 1
    )


def test_two_runs_in_one_second_get_folders_of_their_own(run_train, tmp_path, monkeypatch):
    class Stopped(train.datetime):
        @classmethod
        def now(cls):
            return cls(2030, 1, 1)

    draw_squares(tmp_path / "own", 4)
    monkeypatch.setattr(train, "datetime", Stopped)
    for _ in range(2):
        run_train(dataset="own", training_iterations=1)
    assert sorted(path.name for path in (tmp_path / "TrainingOutput").iterdir()) == [
        "own-20300101-000000",
        "own-20300101-000000-2",
    ]


def test_the_same_run_with_0_1_and_2_workers_gives_the_same_weights(run_train, tmp_path):
    draw_squares(tmp_path / "own", 10)
    weights = []
    for workers in (0, 1, 2):
        run_train(
            dataset="own", run_dir=f"run{workers}", num_workers=workers, dropout=0.2, accum_steps=2
        )
        weights.append(utils.load_checkpoint(tmp_path / f"run{workers}" / "last.pth")["weights"])
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]) and torch.equal(tensor, weights[2][name]), name


def test_another_seed_gives_other_weights(run_train, tmp_path):
    draw_squares(tmp_path / "own", 10)
    for seed in (0, 1):
        run_train(dataset="own", run_dir=f"run{seed}", seed=seed)
    first, second = (
        utils.load_checkpoint(tmp_path / f"run{seed}" / "last.pth")["weights"]["head.weight"]
        for seed in (0, 1)
    )
    assert not torch.equal(first, second)


def test_system_as_schedule_stands_in_history(run_train, tmp_path):
    draw_squares(tmp_path / "own", 4)
    run_train(
        dataset="own",
        run_dir="run",
        training_iterations=510,
        features=(2,),
        image_size=(8, 8),
        batch_size=1,
        eval_interval=50,
        base_lr=1e-3,
        min_lr=1e-4,
        warmup_steps=100,
        decay_factor=5e8,
        save_model_interval=510,
    )
    rates = {
        row["step"]: row["learning_rate"] for row in read_history(tmp_path / "run" / "history.csv")
    }
    assert (
        rates[100] == 1e-3
        and rates[200] == pytest.approx(5.53e-4, abs=5e-7)
        and rates[510] == 1e-4
        and rates[500] > 1e-4
    )


def test_row_27_four_batches_of_two_give_the_gradient_of_one_batch_of_eight(
    make_training, monkeypatch
):
    """Without batch norm, with ignored areas of uneven size and one picture all ignored."""
    images, masks = (
        torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8),
        torch.randint(0, 3, (8, 16, 16), dtype=torch.uint8),
    )
    for i in range(8):
        masks[i, : 2 * i] = IGNORE
    masks[3] = IGNORE
    gradients, losses = [], []
    for size in (8, 2):
        training = make_training(
            features=(4, 8), loss="ce+dice", accum_steps=8 // size, grad_clip=0.0
        )
        for part in training.model.modules():
            if isinstance(part, torch.nn.Sequential):
                part[1], part[4] = torch.nn.Identity(), torch.nn.Identity()
        monkeypatch.setattr(
            training.optimizer,
            "step",
            lambda training=training: gradients.append(
                [
                    parameter.grad.clone()
                    for parameter in training.model.parameters()
                    if parameter.grad is not None
                ]
            ),
        )
        losses.append(training.take_step(zip(images.split(size), masks.split(size))))
    assert losses[0] == pytest.approx(losses[1])
    for whole, parts in zip(*gradients, strict=True):
        assert torch.allclose(whole, parts, atol=1e-5 * whole.abs().max().item() + 1e-8)


def test_a_tiny_net_learns_two_pictures_by_heart(run_train, tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 2, size=(32, 32))
    data = train.prepare("own", "Dataset", (32, 32))
    data.splits = {"train": [0, 1], "val": [0, 1]}
    monkeypatch.setattr(train, "prepare", lambda *_: data)
    monkeypatch.setattr(train, "make_augment", lambda *_: albumentations.Compose([]))
    run_train(
        dataset="own",
        run_dir="run",
        image_size=(32, 32),
        features=(8, 16),
        training_iterations=150,
        eval_interval=40,
        base_lr=1e-2,
        min_lr=1e-3,
        decay_factor=1e7,
    )
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert min(entry["iou"] for entry in report["train"]["classes"]) > 0.99


def test_early_stopping_ends_a_run_whose_validation_does_not_rise(run_train, tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 6)
    scores = iter([0.5, 0.6, 0.4, 0.6, 0.5, 0.9, 0.9, 0.9])
    found = train.evaluate
    monkeypatch.setattr(
        train,
        "evaluate",
        lambda model, split, *rest: {
            **found(model, split, *rest),
            "mean_iou": next(scores) if split.rows == val else 0.0,
        },
    )
    val = train.prepare("own", "Dataset", (16, 16)).splits["val"]
    run_train(
        dataset="own",
        run_dir="run",
        training_iterations=8,
        eval_interval=1,
        patience=3,
        save_model_interval=100,
    )
    assert [row["step"] for row in read_history(tmp_path / "run" / "history.csv")] == [
        1,
        2,
        3,
        4,
        5,
    ]
    assert (
        utils.load_checkpoint(tmp_path / "unet_model.pth")["step"] == 2
        and utils.load_checkpoint(tmp_path / "run" / "last.pth")["step"] == 5
    )
    assert (tmp_path / "run" / "report.json").exists()


def test_the_plateau_schedule_follows_the_validation_loss(run_train, tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 6)
    found = train.evaluate
    monkeypatch.setattr(train, "evaluate", lambda *given: {**found(*given), "loss": 1.0})
    run_train(
        dataset="own",
        run_dir="run",
        training_iterations=8,
        eval_interval=1,
        lr_schedule="plateau",
        plateau_patience=2,
        base_lr=1e-2,
        min_lr=1e-5,
    )
    rates = [row["learning_rate"] for row in read_history(tmp_path / "run" / "history.csv")]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5])


def test_class_weights_are_counted_from_the_training_split_alone(run_train, tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 8)
    seen, weigh = [], utils.weigh_classes
    monkeypatch.setattr(
        utils,
        "weigh_classes",
        lambda pixels, power: seen.append((pixels, power)) or weigh(pixels, power),
    )
    run_train(dataset="own", run_dir="run", loss="ce", class_weights=0.5)
    data = train.prepare("own", "Dataset", (16, 16))
    counted = sum(
        np.bincount(data.read_full_mask(row).ravel(), minlength=3) for row in data.splits["train"]
    )
    assert seen[0][0].tolist() == counted.tolist() and seen[0][1] == 0.5


@pytest.mark.parametrize(
    "options",
    [
        dict(architecture="unet++", deep_supervision=True),
        dict(padded=False, dropout=(0.1, 0.3)),
        dict(loss="focal+lovasz", grad_clip=0.0),
    ],
)
def test_options_train_and_the_checkpoint_builds_the_same_net(run_train, tmp_path, options):
    draw_squares(tmp_path / "own", 6)
    run_train(dataset="own", run_dir="run", **options)
    saved = utils.load_checkpoint(tmp_path / "unet_model.pth")
    build_model(**saved["model"]).load_state_dict(saved["weights"])


def test_deep_supervision_trains_every_output_against_the_same_masks(make_training):
    training = make_training(architecture="unet++", deep_supervision=True, loss="ce+dice")
    images, masks = (
        torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8),
        torch.randint(0, 3, (2, 8, 8), dtype=torch.uint8),
    )
    expected = [
        training.loss_of(logits, masks.long()).item()
        for logits in training.model.train()(images).chunk(2)
    ]
    assert training.take_step(iter([(images, masks)])) == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_averaged_weights_are_the_ones_judged_and_kept(make_training):
    training = make_training(ema_decay=0.5)
    expected = {name: tensor.clone() for name, tensor in training.model.state_dict().items()}
    for step in range(1, 4):
        training.take_step(
            iter(
                [
                    (
                        torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8),
                        torch.zeros(2, 8, 8, dtype=torch.uint8),
                    )
                ]
            )
        )
        decay = min(0.5, step / (step + 10))
        for name, new in training.model.state_dict().items():
            expected[name] = (
                decay * expected[name] + (1 - decay) * new if new.is_floating_point() else new
            )
    kept = training.describe({})["weights"]
    for name, tensor in expected.items():
        assert torch.allclose(kept[name], tensor, atol=1e-6), name
    assert not torch.equal(kept["head.weight"], training.model.head.weight)


def test_row_22_too_little_memory_ends_in_one_sentence_with_the_settings_to_lower(
    run_train, tmp_path, monkeypatch
):
    draw_squares(tmp_path / "own", 6)

    def no_memory(*_):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        )

    monkeypatch.setattr(train.Training, "take_step", no_memory)
    with pytest.raises(
        InputError,
        match="out of memory on cpu in fp32 with batch_size 2.*try batch_size=1 with accum_steps=2",
    ):
        run_train(dataset="own", run_dir="run")
    monkeypatch.setattr(train.Training, "take_step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # anything else is a fault of ours and says where it is
        run_train(dataset="own", run_dir="other")


def test_row_6_a_run_that_predicts_one_class_is_told_so(run_train, tmp_path, monkeypatch, capsys):
    draw_squares(tmp_path / "own", 6)

    def biased(**arguments):
        model = build_model(**arguments)
        model.head.bias.data[0] = 100
        return model

    run_train(dataset="own", run_dir="first", training_iterations=1)
    assert "nothing else is learnt yet" not in capsys.readouterr().out
    monkeypatch.setattr(train, "build_model", biased)
    run_train(dataset="own", run_dir="run", training_iterations=1)
    assert (
        "every pixel of the validation pictures is taken for ground: nothing else is learnt yet"
        in capsys.readouterr().out
    )


def test_row_31_compiled_weights_are_saved_with_plain_keys(run_train, tmp_path, monkeypatch):
    class Compiled(torch.nn.Module):
        """As torch.compile does: the net under another name."""

        def __init__(self, model):
            super().__init__()
            self._orig_mod = model

        def forward(self, images):
            return self._orig_mod(images)

    draw_squares(tmp_path / "own", 6)
    monkeypatch.setattr(train, "can_compile", lambda place: True)
    monkeypatch.setattr(torch, "compile", Compiled)
    run_train(dataset="own", run_dir="run")
    assert all(
        "_orig_mod" not in name
        for name in utils.load_checkpoint(tmp_path / "unet_model.pth")["weights"]
    )


def test_row_30_requirements_are_bounded_and_opencv_is_the_headless_one():
    lines = (ROOT / "requirements.txt").read_text().split()
    assert [line for line in lines if "opencv" in line] == [
        line for line in lines if line.startswith("opencv-python-headless>=")
    ]
    assert all(">=" in line and "<" in line for line in lines)


def test_row_32_warnings_are_errors_here(request):
    assert "error" in request.config.getini("filterwarnings")


def test_the_scores_name_the_last_split_that_has_masks(run_train, tmp_path):
    draw_squares(tmp_path / "own", 2)
    run_train(dataset="own", run_dir="run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["judged_on"] == "val" and "test" not in report


def test_a_run_dir_that_holds_a_run_is_refused(run_train, tmp_path):
    draw_squares(tmp_path / "own", 4)
    run_train(dataset="own", run_dir="run")
    before = (tmp_path / "run" / "last.pth").read_bytes()
    with pytest.raises(InputError, match="run holds a run already; go on with it by resume=run"):
        run_train(dataset="own", run_dir="run")
    assert (tmp_path / "run" / "last.pth").read_bytes() == before


def test_what_is_trained_on_may_be_smaller_than_what_is_judged(run_train, tmp_path, monkeypatch):
    sizes = {}
    forward = train.build_model("unet", num_classes=2).__class__.forward

    def note(self, images, *rest):
        sizes.setdefault(self.training, set()).add(tuple(images.shape[-2:]))
        return forward(self, images, *rest)

    monkeypatch.setattr("model.UNet.forward", note)
    draw_squares(tmp_path / "own", 8)
    run_train(dataset="own", run_dir="run", image_size=(16, 26), training_scale=0.7)
    assert sizes == {
        True: {(12, 18)},
        False: {(16, 26)},
    }  # less by multiples of 4, which this net halves to one
    assert utils.load_checkpoint(tmp_path / "unet_model.pth")["image_size"] == [16, 26]


@pytest.mark.parametrize(
    "side, share, smaller",
    [(80, 0.8, 64), (80, 0.9, 72), (80, 1e-17, 8), (83, 1e-17, 3), (80, 1.0, 80), (5, 0.1, 5)],
)
def test_the_size_in_training_is_padded_as_the_judged_one(monkeypatch, side, share, smaller):
    for name, value in dict(
        image_size=(side, side), training_scale=share, features=(16, 32, 64), patch=1
    ).items():
        monkeypatch.setattr(train, name, value)
    assert train.training_size() == (smaller, smaller)


@pytest.mark.parametrize(
    "setting, sentence",
    [
        (dict(batch_size=0), "batch_size is 0; expected more than 0"),
        (dict(image_size=(8,)), "image_size is"),
        (dict(training_scale=0.0), "training_scale is 0.0; expected more than 0, to 1"),
        (dict(training_scale=1.2), "training_scale is 1.2"),
        (dict(features=()), "features is"),
        (dict(dropout=1.0), "dropout is 1.0"),
        (dict(dropout=(0.1, 0.2, 0.3)), "dropout is"),
        (dict(activation="gelu"), "activation is 'gelu'"),
        (dict(deep_supervision=True), "deep_supervision is True"),
        (dict(lr_schedule="step"), "lr_schedule is 'step'"),
        (dict(tversky_beta=2.0), "tversky_beta"),
        (dict(augment="flip+blur"), "augment is 'flip\\+blur', of which 'blur'"),
        (dict(architecture="vnet"), "architecture is 'vnet'; expected one of unet"),
        (dict(loss="mse"), "loss is 'mse'"),
        (dict(device="cuda:7"), "device is 'cuda:7'"),
        (dict(precision="fp8"), "precision is 'fp8'"),
        (dict(precision="fp16"), "precision is 'fp16'"),
    ],
)
def test_wrong_settings_are_refused_before_anything_is_read(
    run_train, monkeypatch, setting, sentence
):
    monkeypatch.setattr(train, "prepare", None)
    with pytest.raises(InputError, match=sentence):
        run_train(dataset="own", run_dir="run", **setting)


def test_a_typo_on_the_command_line_says_which_constant_was_meant():
    done = subprocess.run(
        [sys.executable, "train.py", "batch_sise=4"], cwd=ROOT, capture_output=True, text=True
    )
    assert (
        done.returncode == 1
        and "did you mean batch_size?" in done.stderr
        and "Traceback" not in done.stderr
    )


def test_training_with_spawned_workers_works_as_on_windows_and_macos(project):
    """The whole first run, drawing Streets included."""
    settings = [
        f"{name}={value}"
        for name, value in {**TINY, "run_dir": "run", "num_workers": 2, "image_size": 16}.items()
    ]
    (project / "spawned.py").write_text(
        "import multiprocessing, runpy, sys\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('spawn')\n"
        f"    sys.argv = ['train.py', *{settings!r}]\n"
        "    runpy.run_path('train.py', run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "spawned.py"], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (project / "run" / "report.json").exists() and len(
        list((project / "Dataset" / "streets" / "masks").iterdir())
    ) == 8


def test_row_14_dropout_follows_from_the_step_alone(make_training):
    losses = []
    for stray_draws, step in ((0, 5), (3, 5), (0, 6)):
        training = make_training(dropout=0.5)
        training.step = step
        torch.rand(stray_draws)
        losses.append(
            training.take_step(
                iter(
                    [
                        (
                            torch.full((2, 3, 8, 8), 90, dtype=torch.uint8),
                            torch.ones(2, 8, 8, dtype=torch.uint8),
                        )
                    ]
                )
            )
        )
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_row_12_what_is_not_a_number_stops_the_run_before_the_weights_change_and_names_the_files(
    run_train, tmp_path, monkeypatch, what
):
    draw_squares(tmp_path / "own", 8)
    made, calls = utils.make_loss, []

    def make_loss(*given):
        def loss(logits, masks):
            value = made(*given)(logits, masks)
            if torch.is_grad_enabled():
                calls.append(value)
            if len(calls) == 3 and torch.is_grad_enabled():
                value = (
                    value * math.nan if what == "loss" else value + (logits * 0).sum().sqrt()
                )  # the root's slope at 0 is infinite
            return value

        return loss

    monkeypatch.setattr(utils, "make_loss", make_loss)
    with pytest.raises(InputError) as caught:
        run_train(
            dataset="own",
            run_dir="run",
            save_model_interval=1,
            grad_clip=1.0 if what == "loss" else 0.0,
        )
    message = str(caught.value)
    assert (
        "loss is nan at step 3" if what == "loss" else "gradient's length is nan at step 3"
    ) in message and "lower base_lr" in message
    data = train.prepare("own", "Dataset", (16, 16))
    stream = train.SegmentationDataset(data, "train", train.make_augment((16, 16), ""), 0)
    for position in (4, 5):
        assert data.pairs[stream.row(position)].image.name in message
    saved = utils.load_checkpoint(tmp_path / "run" / "last.pth")
    assert saved["step"] == 2 and all(
        tensor.isfinite().all() for tensor in saved["weights"].values()
    )


def test_row_12_steps_that_the_fp16_scaler_leaves_out_are_counted_and_no_error(
    make_training, monkeypatch
):
    training = make_training()
    training.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    training.loss_of = lambda logits, masks: (
        logits.square().mean() * 1e6
    )  # so large that the scaled gradient overflows
    before = {name: tensor.clone() for name, tensor in training.model.named_parameters()}
    images, masks = (
        torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8),
        torch.zeros(2, 8, 8, dtype=torch.uint8),
    )
    training.take_step(iter([(images, masks)]))
    assert training.skipped == 1 and training.scaler.get_scale() == 2.0**126
    assert all(
        torch.equal(tensor, before[name]) for name, tensor in training.model.named_parameters()
    )


def test_bf16_is_chosen_only_where_the_chip_multiplies_in_it(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert utils.Place("cpu", "auto").precision == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "avx2": True})
    assert utils.Place("cpu", "auto").precision == "fp32"


def test_bf16_trains_on_the_cpu(run_train, tmp_path):
    draw_squares(tmp_path / "own", 4)
    run_train(dataset="own", run_dir="run", precision="bf16")
    assert json.loads((tmp_path / "run" / "report.json").read_text())["precision"] == "bf16"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_on_a_gpu_works_and_saves_plain_keys(run_train, tmp_path, precision):
    draw_squares(tmp_path / "own", 6)
    run_train(
        dataset="own",
        run_dir="run",
        device="cuda",
        precision=precision,
        compile_model=precision == "bf16",
    )
    saved = utils.load_checkpoint(tmp_path / "unet_model.pth")  # row 31
    build_model(**saved["model"]).load_state_dict(saved["weights"])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat_over_2000_steps(make_training):
    training = make_training(dropout=0.2, ema_decay=0.9, features=(2, 4), augment="flip")
    batches = train.training_batches(training.stream, 2)
    used = []
    for _ in range(2000):
        training.take_step(batches)
        if training.step % 500 == 0:
            with open("/proc/self/statm") as file:
                used.append(int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20)
    assert used[-1] - used[0] < 5, used  # MB


WARNINGS = {
    "absent": "it can't be learnt",
    "floor": "the learning rate is at min_lr",
    "still": "the loss has not moved",
    "single": "nothing else is learnt yet",
    "gap": "learnt by heart",
}


def heard(out: str) -> set[str]:
    return {kind for kind, words in WARNINGS.items() if words in out}


def test_a_run_that_learns_is_not_warned(run_train, tmp_path, capsys):
    draw_squares(tmp_path / "own", 16, size=(32, 32))
    run_train(
        dataset="own",
        run_dir="run",
        image_size=(32, 32),
        features=(8, 16),
        training_iterations=220,
        eval_interval=44,
        base_lr=1e-2,
        min_lr=1e-4,
        decay_factor=1e7,
    )
    assert heard(capsys.readouterr().out) == set()


def test_a_rate_too_low_is_warned_of_after_a_tenth_of_the_run(run_train, tmp_path, capsys):
    draw_squares(tmp_path / "own", 6)
    run_train(
        dataset="own",
        run_dir="run",
        training_iterations=200,
        eval_interval=200,
        base_lr=1e-9,
        min_lr=1e-10,
        warmup_steps=0,
        decay_factor=1e24,
        augment="",
    )
    out = capsys.readouterr().out
    assert (
        "still" in heard(out) and "in the first tenth of the run" in out and "raise base_lr" in out
    )


def test_a_rate_at_its_floor_for_most_of_the_run_is_warned_of_before_it(
    run_train, tmp_path, capsys, monkeypatch
):
    """As system A's own schedule is: at min_lr from step 505 of 1250."""
    draw_squares(tmp_path / "own", 6)
    monkeypatch.setattr(train, "learn", lambda training, run: print(train.warnings(training)) or 15)
    run_train(
        dataset="own",
        run_dir="run",
        training_iterations=1250,
        base_lr=1e-3,
        min_lr=1e-4,
        warmup_steps=100,
        decay_factor=5e8,
    )
    out = capsys.readouterr().out
    assert heard(out) == {"floor"} and "from step 505 of 1250 on; raise decay_factor" in out


def test_a_class_that_the_training_split_lacks_is_warned_of(run_train, tmp_path, capsys):
    draw_squares(tmp_path / "own", 5)
    move_into_splits(tmp_path / "own")
    for path in (tmp_path / "own" / "masks" / "train").iterdir():
        mask = np.array(Image.open(path))
        Image.fromarray(np.where(mask == 2, 0, mask).astype(np.uint8)).save(path)
    run_train(dataset="own", run_dir="run")
    out = capsys.readouterr().out
    assert "absent" in heard(out) and "the training split has no pixel of blue" in out


def test_pictures_learnt_by_heart_are_warned_of(make_training):
    training = make_training(training_iterations=90)
    row = {"val_mean_iou": 0.4, "train_mean_iou": 0.9}
    training.history = [{**row, "step": step} for step in range(10, 100, 10)]
    training.step = 90
    assert "since step 70 at least" in train.warnings(training)["gap"]
    training.history[-1]["val_mean_iou"] = 0.75
    assert "gap" not in train.warnings(training)


def test_the_best_evaluation_is_the_first_of_the_highest_and_the_last_where_none_has_a_score(
    make_training,
):
    training = make_training()
    for scores, best in (
        ((0.1, 0.3, math.nan, 0.3), 1),
        ((math.nan, math.nan, math.nan), 2),
        ((0.0, 0.0), 0),
    ):
        training.history = [{"val_mean_iou": score} for score in scores]
        assert training.best_evaluation() == best


def test_the_worst_pictures_are_the_ones_with_the_lowest_scores(run_train, tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 40)
    titles = []
    monkeypatch.setattr(
        utils,
        "sheet",
        lambda *given: (
            titles.extend(given[4] if len(given) > 4 else ()) or np.zeros((30, 30, 3), np.uint8)
        ),
    )
    monkeypatch.setattr(utils, "draw_learning", lambda *_: None)
    run_train(dataset="own", run_dir="run")
    data = train.prepare("own", "Dataset", (16, 16))
    saved = utils.load_checkpoint(tmp_path / "unet_model.pth")
    model = build_model(**saved["model"])
    model.load_state_dict(saved["weights"])
    scores, worst = {}, {}
    for row in data.splits["test"]:
        image, mask = data.read(row)
        matrix = utils.ConfusionMatrix(3)
        with torch.no_grad():
            matrix.update(
                model.eval()(torch.from_numpy(image).permute(2, 0, 1)[None]).argmax(1)[0],
                torch.from_numpy(mask),
            )
        scores[data.pairs[row].image.name] = matrix.scores()["mean_iou"]
        worst[data.pairs[row].image.name] = sorted(
            (iou, name)
            for iou, name in zip(matrix.scores()["iou"].tolist(), data.table.names)
            if not math.isnan(iou)
        )[:2]
    assert [title.split(":")[0] for title in titles] == sorted(scores, key=scores.get)[:4] and len(
        scores
    ) == 6
    lowest = min(scores, key=scores.get)
    assert f"mean IoU {scores[lowest]:.2f}; weakest: " in titles[0]
    assert all(f"{name} {iou:.2f}" in titles[0] for iou, name in worst[lowest])
