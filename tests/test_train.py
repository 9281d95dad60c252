import csv
import json
import math
import subprocess
import sys

from toolbox import machine, pictures, prepared
from toolbox.errors import InputError
from toolbox.machine import Place
from toolbox.masks import IGNORE
from toolbox.reports import report_of

import albumentations
import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, draw_squares, move_into_splits
from PIL import Image

import dataset
import train
from model import build_model
from utils import ConfusionMatrix, load_checkpoint, make_loss


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
        "report.html",
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
    for split in ("train", "val", "test"):
        assert {"pixel_accuracy", "mean_iou", "mean_dice", "classes", "baseline"} <= report[
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
        "digest",
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
    saved = load_checkpoint(tmp_path / "unet_model.pth")
    model = build_model(**saved["model"])
    model.load_state_dict(saved["weights"])
    model.eval()
    data = dataset.prepare("own", "Dataset", (16, 16))
    matrix = ConfusionMatrix(3)
    for row in data.splits["test"]:
        image = torch.from_numpy(data.read(row)[0]).permute(2, 0, 1)[None]
        with torch.no_grad():
            logits = torch.nn.functional.interpolate(model(image), size=(20, 28), mode="bilinear")
        with Image.open(data.pairs[row].mask) as mask:
            matrix.update(logits.argmax(1)[0], torch.from_numpy(np.array(mask)))
    for name, value in report_of(matrix.scores(), data.table.names).items():
        if name != "classes":
            assert value == report["test"][name]
    ious = matrix.scores()["iou"].tolist()
    assert ious == [entry["iou"] for entry in report["test"]["classes"]]


@pytest.mark.parametrize("batch", [1, 3, 5])
def test_row_8_scores_do_not_depend_on_the_batch_size_nor_on_a_short_last_batch(
    run_train, tmp_path, batch
):
    draw_squares(tmp_path / "own", 10)
    run_train(dataset="own", run_dir="run", eval_iterations=0)
    data = dataset.prepare("own", "Dataset", (16, 16))
    training = train.Training(data, Place("cpu", "fp32"))
    training.folder = tmp_path / "run"
    training.load()
    split = training.splits["train"]

    def found(batch_size: int) -> tuple[dict, dict]:
        train.batch_size = batch_size
        scores = train.quick_scores(training.kept, split, training.loss_of, training.place)
        judged = train.judge(training.kept, split, training.place)
        return scores, report_of(judged.scores, ["a", "b", "c"])

    (scores, report), (expected, expected_report) = found(batch), found(2)
    for name in ("loss", "pixel_accuracy", "mean_iou", "mean_dice"):
        assert scores[name] == pytest.approx(expected[name], rel=1e-5)
    assert torch.equal(scores["predicted"], expected["predicted"])
    assert report == expected_report
    assert sum(data.pixels[row, :3].sum() for row in split.rows) == 6 * 256


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


def test_the_same_run_with_0_1_and_2_workers_gives_the_same_weights(run_train, tmp_path):
    draw_squares(tmp_path / "own", 10)
    weights = []
    for workers in (0, 1, 2):
        run_train(
            dataset="own", run_dir=f"run{workers}", num_workers=workers, dropout=0.2, accum_steps=2
        )
        weights.append(load_checkpoint(tmp_path / f"run{workers}" / "last.pth")["weights"])
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]) and torch.equal(tensor, weights[2][name]), name


def test_another_seed_gives_other_weights(run_train, tmp_path):
    draw_squares(tmp_path / "own", 10)
    for seed in (0, 1):
        run_train(dataset="own", run_dir=f"run{seed}", seed=seed)
    first, second = (
        load_checkpoint(tmp_path / f"run{seed}" / "last.pth")["weights"]["head.weight"]
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
    data = dataset.prepare("own", "Dataset", (32, 32))
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
    val = dataset.prepare("own", "Dataset", (16, 16)).splits["val"]
    evaluate = train.quick_scores

    def planned(model, split, *rest):
        score = next(scores) if split.rows == val else 0.0
        return {**evaluate(model, split, *rest), "mean_iou": score, "loss": 1.0}

    monkeypatch.setattr(train, "quick_scores", planned)
    options = dict(training_iterations=8, eval_interval=1, patience=3, save_model_interval=100)
    run_train(dataset="own", run_dir="run", **options)
    history = read_history(tmp_path / "run" / "history.csv")
    assert [row["step"] for row in history] == [1, 2, 3, 4, 5]
    assert load_checkpoint(tmp_path / "unet_model.pth")["step"] == 4  # as good as the second
    assert load_checkpoint(tmp_path / "run" / "last.pth")["step"] == 5
    assert (tmp_path / "run" / "report.json").exists()


def test_the_plateau_schedule_follows_the_validation_loss(run_train, tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 6)
    found = train.quick_scores
    monkeypatch.setattr(train, "quick_scores", lambda *given: {**found(*given), "loss": 1.0})
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
    seen, weigh = [], prepared.weigh_classes

    def note(pixels, power):
        seen.append((pixels, power))
        return weigh(pixels, power)

    monkeypatch.setattr(prepared, "weigh_classes", note)
    run_train(dataset="own", run_dir="run", loss="ce", class_weights=0.5)
    data = dataset.prepare("own", "Dataset", (16, 16))
    counted = np.zeros(3, int)
    for row in data.splits["train"]:
        ids = dataset.read_ids(data.pairs[row].mask, data.table.meaning)
        counted += np.bincount(ids.ravel(), minlength=3)
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
    saved = load_checkpoint(tmp_path / "unet_model.pth")
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
        images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
        masks = torch.zeros(2, 8, 8, dtype=torch.uint8)
        training.take_step(iter([(images, masks)]))
        decay = min(0.5, step / (step + 10))
        for name, new in training.model.state_dict().items():
            if new.is_floating_point():
                expected[name] = decay * expected[name] + (1 - decay) * new
            else:
                expected[name] = new
    kept = training.checkpoint()["weights"]
    for name, tensor in expected.items():
        assert torch.allclose(kept[name], tensor, atol=1e-6), name
    assert not torch.equal(kept["head.weight"], training.model.head.weight)


def test_row_22_too_little_memory_ends_in_one_sentence_with_the_settings_to_lower(
    run_train, tmp_path, monkeypatch
):
    draw_squares(tmp_path / "own", 6)

    def no_memory(*_):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you "
            "tried to allocate 9 bytes"
        )

    monkeypatch.setattr(train.Training, "take_step", no_memory)
    said = "out of memory on cpu in fp32 with batch_size 2.*try batch_size=1 with accum_steps=2"
    with pytest.raises(InputError, match=said):
        run_train(dataset="own", run_dir="run")
    monkeypatch.setattr(train.Training, "take_step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # anything else is a fault of ours and says where it is
        run_train(dataset="own", run_dir="other")


def test_row_31_compiled_weights_are_saved_with_plain_keys(run_train, tmp_path, monkeypatch):
    class Compiled(torch.nn.Module):
        """As torch.compile does: the net under another name."""

        def __init__(self, model, dynamic):
            super().__init__()
            self._orig_mod = model

        def forward(self, images):
            return self._orig_mod(images)

    draw_squares(tmp_path / "own", 6)
    monkeypatch.setattr(machine, "can_compile", lambda place: True)
    monkeypatch.setattr(torch, "compile", Compiled)
    run_train(dataset="own", run_dir="run")
    assert all(
        "_orig_mod" not in name for name in load_checkpoint(tmp_path / "unet_model.pth")["weights"]
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


@pytest.mark.parametrize(
    "setting, trained",
    [
        (
            dict(training_scale=0.7),
            (12, 20),
        ),  # multiples of 4, which this net halves to one
        (dict(crop_size=(8, 12)), (8, 12)),
    ],
)
def test_what_is_trained_on_may_be_smaller_than_what_is_judged(
    run_train, tmp_path, monkeypatch, setting, trained
):
    sizes = {}
    forward = train.build_model("unet", num_classes=2).__class__.forward

    def note(self, images, *rest):
        sizes.setdefault(self.training, set()).add(tuple(images.shape[-2:]))
        return forward(self, images, *rest)

    monkeypatch.setattr("model.UNet.forward", note)
    draw_squares(tmp_path / "own", 8)
    run_train(dataset="own", run_dir="run", image_size=(16, 26), **setting)
    assert sizes == {True: {trained}, False: {(16, 26)}}
    assert load_checkpoint(tmp_path / "unet_model.pth")["image_size"] == [16, 26]


def test_pictures_grow_in_equal_parts_of_a_run(run_train, tmp_path, monkeypatch, capsys):
    sizes = []
    forward = train.Machinery.logits

    def note(machine, images, **last):
        sizes.append(tuple(images.shape[-2:]))
        return forward(machine, images, **last)

    monkeypatch.setattr(train.Machinery, "logits", note)
    draw_squares(tmp_path / "own", 8)
    growing = dict(training_scale=(0.25, 0.7, 1), training_iterations=5, accum_steps=3, mix=0.5)
    run_train(dataset="own", run_dir="run", image_size=(16, 26), batch_size=3, **growing)
    assert sizes == 6 * [(4, 8)] + 6 * [(12, 20)] + 3 * [(16, 24)]
    assert "epochs at 8×4, 20×12, 24×16; " in capsys.readouterr().out
    saved = load_checkpoint(tmp_path / "unet_model.pth")
    assert saved["image_size"] == [16, 26]
    assert saved["constants"]["training_scale"] == [0.25, 0.7, 1.0]


@pytest.mark.parametrize(
    "setting, sentence",
    [
        (dict(batch_size=0), "batch_size is 0; expected a whole number from 1"),
        (dict(image_size=(8,)), "image_size is"),
        (dict(training_scale=0.0), "training_scale is 0.0; expected a number above 0 to 1"),
        (dict(training_scale=1.2), "training_scale is 1.2"),
        (
            dict(training_scale=(0.5, 0)),
            "training_scale is \\(0.5, 0\\); .*, or up to six, in turn$",
        ),
        (dict(crop_size=(8, 0)), "crop_size is \\(8, 0\\), not a window of image_size"),
        (dict(crop_size=(999, 8)), "crop_size is \\(999, 8\\), not a window"),
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
    images = torch.full((2, 3, 8, 8), 90, dtype=torch.uint8)
    masks = torch.ones(2, 8, 8, dtype=torch.uint8)
    losses = []
    for stray_draws, step in ((0, 5), (3, 5), (0, 6)):
        training = make_training(dropout=0.5)
        training.step = step
        torch.rand(stray_draws)
        losses.append(training.take_step(iter([(images, masks)])))
    assert losses[0] == losses[1] != losses[2]


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_row_12_what_is_not_a_number_stops_the_run_before_the_weights_change_and_names_the_files(
    run_train, tmp_path, monkeypatch, what
):
    draw_squares(tmp_path / "own", 8)
    calls = []

    def make_bad_loss(*given):
        loss_of = make_loss(*given)

        def loss(logits, masks):
            value = loss_of(logits, masks)
            if not torch.is_grad_enabled():
                return value
            calls.append(value)
            if len(calls) < 3:
                return value
            if what == "loss":
                return value * math.nan
            return value + (logits * 0).sum().sqrt()  # the root's slope at 0 is infinite

        return loss

    monkeypatch.setattr(train, "make_loss", make_bad_loss)
    grad_clip = 1.0 if what == "loss" else 0.0
    with pytest.raises(InputError) as caught:
        run_train(dataset="own", run_dir="run", save_model_interval=1, grad_clip=grad_clip)
    message = str(caught.value)
    said = "loss is nan at step 3" if what == "loss" else "gradient's length is nan at step 3"
    assert said in message and "lower base_lr" in message
    data = dataset.prepare("own", "Dataset", (16, 16))
    stream = dataset.SegmentationDataset(data, "train", dataset.make_augment((16, 16), ""), 0)
    for position in (4, 5):
        assert data.pairs[stream.row(position)].image.name in message
    saved = load_checkpoint(tmp_path / "run" / "last.pth")
    assert saved["step"] == 2
    assert all(tensor.isfinite().all() for tensor in saved["weights"].values())


def test_row_12_steps_that_the_fp16_scaler_leaves_out_are_counted_and_no_error(
    make_training, monkeypatch
):
    training = make_training()
    training.machine.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    training.loss_of = lambda logits, masks: (
        logits.square().mean() * 1e6
    )  # so large that the scaled gradient overflows
    before = {name: tensor.clone() for name, tensor in training.model.named_parameters()}
    images, masks = (
        torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8),
        torch.zeros(2, 8, 8, dtype=torch.uint8),
    )
    training.take_step(iter([(images, masks)]))
    assert training.machine.skipped == 1 and training.machine.scaler.get_scale() == 2.0**126
    assert all(
        torch.equal(tensor, before[name]) for name, tensor in training.model.named_parameters()
    )


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
    saved = load_checkpoint(tmp_path / "unet_model.pth")  # row 31
    build_model(**saved["model"]).load_state_dict(saved["weights"])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_stays_flat_over_2000_steps(tmp_path):
    """In a process of its own, as what other tests gave back is taken up again little by little."""
    draw_squares(tmp_path / "own", 6)
    lines = [
        "import os, sys",
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]",
        "import train",
        "from conftest import TINY",
        "from toolbox.machine import Place",
        "own = dict(dataset='own', dropout=0.2, ema_decay=0.9, features=(2, 4), augment='flip')",
        "vars(train).update({**TINY, **own})",
        "data = train.prepare('own', '.', train.image_size)",
        "training = train.Training(data, Place('cpu', 'fp32'))",
        "batches = train.training_batches(training.stream, 2)",
        "for step in range(1, 2001):",
        "    training.take_step(batches)",
        "    if step % 500 == 0:",
        "        pages = int(open('/proc/self/statm').read().split()[1])",
        "        print(pages * os.sysconf('SC_PAGE_SIZE') / 2**20)",
    ]
    command = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    used = [float(line) for line in done.stdout.split()]
    assert len(used) == 4 and used[-1] - used[0] < 5, used  # MB


def test_the_worst_pictures_are_the_ones_with_the_lowest_scores(run_train, tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 40)
    titles = []

    def note(rows, names, colors, captions, own_titles=()):
        titles.extend(own_titles)
        return np.zeros((30, 30, 3), np.uint8)

    monkeypatch.setattr(pictures, "sheet", note)
    run_train(dataset="own", run_dir="run")
    data = dataset.prepare("own", "Dataset", (16, 16))
    saved = load_checkpoint(tmp_path / "unet_model.pth")
    model = build_model(**saved["model"])
    model.load_state_dict(saved["weights"])
    model.eval()
    scores, worst = {}, {}
    for row in data.splits["test"]:
        image, mask = data.read(row)
        matrix = ConfusionMatrix(3)
        with torch.no_grad():
            preds = model(torch.from_numpy(image).permute(2, 0, 1)[None]).argmax(1)[0]
        matrix.update(preds, torch.from_numpy(mask))
        found, name = matrix.scores(), data.pairs[row].image.name
        scores[name] = found["mean_iou"]
        named = zip(found["iou"].tolist(), data.table.names)
        worst[name] = sorted((iou, name) for iou, name in named if not math.isnan(iou))[:2]
    assert len(scores) == 6
    assert [title.split(":")[0] for title in titles] == sorted(scores, key=scores.get)[:4]
    lowest = min(scores, key=scores.get)
    assert f"mean IoU {scores[lowest]:.2f}; weakest: " in titles[0]
    assert all(f"{name} {iou:.2f}" in titles[0] for iou, name in worst[lowest])
