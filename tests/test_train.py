import csv
import json
import math
import subprocess
import sys

import albumentations
import numpy as np
import pytest
import torch
from PIL import Image

import train
import utils
from conftest import ROOT, TINY, draw_squares
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
    assert names == {"best.pth", "last.pth", "history.csv", "curves.png", "learning_rate.png", "confusion.png", "report.json",
                     "predictions/step_000002.png", "predictions/step_000004.png"}
    history = read_history(run / "history.csv")
    assert list(history[0]) == ["step", "images_seen", "seconds", "learning_rate", "train_loss", "train_pixel_accuracy", "train_mean_iou",
                                "val_loss", "val_pixel_accuracy", "val_mean_iou"]
    assert [row["step"] for row in history] == [2, 4]
    assert [row["images_seen"] for row in history] == [4, 8]

    report = json.loads((run / "report.json").read_text())
    assert {"train", "val", "test", "seconds", "images_per_second", "parameters", "device", "precision"} <= report.keys()
    for split, pictures in (("train", 6), ("val", 2), ("test", 2)):
        assert {"pixel_accuracy", "mean_iou", "mean_dice", "classes", "baseline"} == report[split].keys()
        assert [entry["name"] for entry in report[split]["classes"]] == ["ground", "red", "blue"]
        assert sum(entry["share"] for entry in report[split]["classes"]) == pytest.approx(1)
        assert report[split]["baseline"]["class"] == "ground"

    saved = torch.load(tmp_path / "unet_model.pth", weights_only=True)
    assert {"format", "model", "weights", "classes", "image_size", "scale", "step", "metrics", "constants"} == saved.keys()
    assert saved["format"] == 1 and saved["classes"][1] == {"name": "red", "color": [255, 0, 0]} and saved["image_size"] == [16, 16]
    assert saved["scale"] == pytest.approx((256 / 560) ** .5) and saved["constants"]["dataset"] == "own"
    build_model(**saved["model"]).load_state_dict(saved["weights"])  # row 17: it describes itself
    best = max(history, key=lambda row: row["val_mean_iou"])
    assert saved["step"] == best["step"] and saved["metrics"]["val_mean_iou"] == pytest.approx(best["val_mean_iou"])
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


def test_the_same_run_with_0_1_and_2_workers_gives_the_same_weights(run_train, tmp_path):
    draw_squares(tmp_path / "own", 10)
    weights = []
    for workers in (0, 1, 2):
        run_train(dataset="own", run_dir=f"run{workers}", num_workers=workers, dropout=.2, accum_steps=2)
        weights.append(utils.load_checkpoint(tmp_path / f"run{workers}" / "last.pth")["weights"])
    for name, tensor in weights[0].items():
        assert torch.equal(tensor, weights[1][name]) and torch.equal(tensor, weights[2][name]), name


def test_another_seed_gives_other_weights(run_train, tmp_path):
    draw_squares(tmp_path / "own", 10)
    for seed in (0, 1):
        run_train(dataset="own", run_dir=f"run{seed}", seed=seed)
    first, second = (utils.load_checkpoint(tmp_path / f"run{seed}" / "last.pth")["weights"]["head.weight"] for seed in (0, 1))
    assert not torch.equal(first, second)


def test_system_as_schedule_stands_in_history(run_train, tmp_path):
    draw_squares(tmp_path / "own", 4)
    run_train(dataset="own", run_dir="run", training_iterations=510, features=(2,), image_size=(8, 8), batch_size=1, eval_interval=50,
              base_lr=1e-3, min_lr=1e-4, warmup_steps=100, decay_factor=5e8, save_model_interval=510)
    rates = {row["step"]: row["learning_rate"] for row in read_history(tmp_path / "run" / "history.csv")}
    assert rates[100] == 1e-3 and rates[200] == pytest.approx(5.53e-4, abs=5e-7) and rates[510] == 1e-4 and rates[500] > 1e-4


def test_row_27_four_batches_of_two_give_the_gradient_of_one_batch_of_eight(monkeypatch):
    """Without batch norm, with ignored areas of uneven size and one picture all ignored."""
    torch.manual_seed(0)
    model = UNet(4, features=(4, 8))
    for part in model.modules():
        if isinstance(part, torch.nn.Sequential):
            part[1], part[4] = torch.nn.Identity(), torch.nn.Identity()
    images, masks = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8), torch.randint(0, 4, (8, 16, 16), dtype=torch.uint8)
    for i in range(8):
        masks[i, :2 * i] = IGNORE
    masks[3] = IGNORE
    monkeypatch.setattr(train, "grad_clip", 1e9)
    place, gradients, losses = utils.Place("cpu", "fp32"), [], []

    class Keep(torch.optim.SGD):
        """Keeps the gradients and takes no step."""
        def step(self):
            gradients.append([parameter.grad.clone() for parameter in model.parameters()])
    for size in (8, 2):
        monkeypatch.setattr(train, "accum_steps", 8 // size)
        batches = zip(images.split(size), masks.split(size))
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        losses.append(train.train_step(model, batches, utils.make_loss("ce+dice"), Keep(model.parameters()), scaler, place, 1, .1))
    assert losses[0] == pytest.approx(losses[1])
    for whole, parts in zip(*gradients):
        assert torch.allclose(whole, parts, atol=1e-5 * whole.abs().max().item() + 1e-8)


def test_a_tiny_net_learns_two_pictures_by_heart(run_train, tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 2, size=(32, 32))
    data = train.prepare("own", "Dataset", (32, 32))
    data.splits = {"train": [0, 1], "val": [0, 1]}
    monkeypatch.setattr(train, "prepare", lambda *_: data)
    monkeypatch.setattr(train, "make_augment", lambda size, names: albumentations.Compose([]))
    run_train(dataset="own", run_dir="run", image_size=(32, 32), features=(8, 16), training_iterations=150, eval_interval=40, base_lr=1e-2, min_lr=1e-3, decay_factor=1e7)
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert min(entry["iou"] for entry in report["train"]["classes"]) > .99


def test_early_stopping_ends_a_run_whose_validation_does_not_rise(run_train, tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 6)
    scores = iter([.5, .6, .4, .6, .5, .9, .9, .9])
    found = train.evaluate
    monkeypatch.setattr(train, "evaluate", lambda model, split, *rest: {**found(model, split, *rest), "mean_iou": next(scores) if split.rows == val else 0.0})
    val = train.prepare("own", "Dataset", (16, 16)).splits["val"]
    run_train(dataset="own", run_dir="run", training_iterations=8, eval_interval=1, patience=3, save_model_interval=100)
    assert [row["step"] for row in read_history(tmp_path / "run" / "history.csv")] == [1, 2, 3, 4, 5]
    assert utils.load_checkpoint(tmp_path / "unet_model.pth")["step"] == 2 and utils.load_checkpoint(tmp_path / "run" / "last.pth")["step"] == 5
    assert (tmp_path / "run" / "report.json").exists()


def test_the_plateau_schedule_follows_the_validation_loss(run_train, tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 6)
    found = train.evaluate
    monkeypatch.setattr(train, "evaluate", lambda *given: {**found(*given), "loss": 1.0})
    run_train(dataset="own", run_dir="run", training_iterations=8, eval_interval=1, lr_schedule="plateau", plateau_patience=2, base_lr=1e-2, min_lr=1e-5)
    rates = [row["learning_rate"] for row in read_history(tmp_path / "run" / "history.csv")]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4, 1e-5])


def test_class_weights_are_counted_from_the_training_split_alone(run_train, tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 8)
    seen, weigh = [], utils.weigh_classes
    monkeypatch.setattr(utils, "weigh_classes", lambda pixels, power: seen.append((pixels, power)) or weigh(pixels, power))
    run_train(dataset="own", run_dir="run", loss="ce", class_weights=.5)
    data = train.prepare("own", "Dataset", (16, 16))
    counted = sum(np.bincount(data.read_full_mask(row).ravel(), minlength=3) for row in data.splits["train"])
    assert seen[0][0].tolist() == counted.tolist() and seen[0][1] == .5


@pytest.mark.parametrize("options", [dict(architecture="unet++", deep_supervision=True), dict(padded=False, dropout=(.1, .3)), dict(loss="focal+lovasz", grad_clip=0.0)])
def test_options_train_and_the_checkpoint_builds_the_same_net(run_train, tmp_path, options):
    draw_squares(tmp_path / "own", 6)
    run_train(dataset="own", run_dir="run", **options)
    saved = utils.load_checkpoint(tmp_path / "unet_model.pth")
    build_model(**saved["model"]).load_state_dict(saved["weights"])


def test_deep_supervision_trains_every_output_against_the_same_masks(monkeypatch):
    torch.manual_seed(0)
    model = build_model("unet++", num_classes=3, features=(4, 8), deep_supervision=True)
    images, masks = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8), torch.randint(0, 3, (2, 8, 8), dtype=torch.uint8)
    monkeypatch.setattr(train, "accum_steps", 1)
    scaler = torch.amp.GradScaler("cpu", enabled=False)
    loss_of = utils.make_loss("ce+dice")
    expected = [loss_of(logits, masks.long()).item() for logits in model.train()(images).chunk(2)]
    taken = train.train_step(model, iter([(images, masks)]), loss_of, torch.optim.SGD(model.parameters(), .1), scaler, utils.Place("cpu", "fp32"), 1, .1)
    assert taken == pytest.approx(sum(expected) / 2, rel=1e-5)


def test_the_scores_name_the_last_split_that_has_masks(run_train, tmp_path):
    draw_squares(tmp_path / "own", 2)
    run_train(dataset="own", run_dir="run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["judged_on"] == "val" and "test" not in report


def test_a_run_dir_that_holds_a_run_is_refused(run_train, tmp_path):
    draw_squares(tmp_path / "own", 4)
    run_train(dataset="own", run_dir="run")
    before = (tmp_path / "run" / "last.pth").read_bytes()
    with pytest.raises(InputError, match="run holds a run already"):
        run_train(dataset="own", run_dir="run")
    assert (tmp_path / "run" / "last.pth").read_bytes() == before


@pytest.mark.parametrize("setting, sentence", [
    (dict(batch_size=0), "batch_size is 0; expected more than 0"), (dict(image_size=(8,)), "image_size is"), (dict(features=()), "features is"),
    (dict(dropout=1.0), "dropout is 1.0"), (dict(dropout=(.1, .2, .3)), "dropout is"), (dict(activation="gelu"), "activation is 'gelu'"),
    (dict(deep_supervision=True), "deep_supervision is True"), (dict(lr_schedule="step"), "lr_schedule is 'step'"), (dict(tversky_beta=2.0), "tversky_beta"),
    (dict(augment="flip+blur"), "augment is 'flip\\+blur', of which 'blur'"), (dict(architecture="vnet"), "architecture is 'vnet'; expected one of unet"),
    (dict(loss="mse"), "loss is 'mse'"), (dict(device="cuda:7"), "device is 'cuda:7'"), (dict(precision="fp8"), "precision is 'fp8'"),
    (dict(precision="fp16"), "precision is 'fp16'")])
def test_wrong_settings_are_refused_before_anything_is_read(run_train, monkeypatch, setting, sentence):
    monkeypatch.setattr(train, "prepare", None)
    with pytest.raises(InputError, match=sentence):
        run_train(dataset="own", run_dir="run", **setting)


def test_a_typo_on_the_command_line_says_which_constant_was_meant():
    done = subprocess.run([sys.executable, "train.py", "batch_sise=4"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and "did you mean batch_size?" in done.stderr and "Traceback" not in done.stderr


def test_training_with_spawned_workers_works_as_on_windows_and_macos(project):
    """The whole first run, drawing Streets included."""
    settings = [f"{name}={value}" for name, value in {**TINY, "run_dir": "run", "num_workers": 2, "image_size": 16}.items()]
    (project / "spawned.py").write_text(
        "import multiprocessing, runpy, sys\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('spawn')\n"
        f"    sys.argv = ['train.py', *{settings!r}]\n"
        "    runpy.run_path('train.py', run_name='__main__')\n")
    done = subprocess.run([sys.executable, "spawned.py"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (project / "run" / "report.json").exists() and len(list((project / "Dataset" / "streets" / "masks").iterdir())) == 8


def test_row_14_dropout_follows_from_the_step_alone(monkeypatch):
    monkeypatch.setattr(train, "accum_steps", 1)
    losses = []
    for stray_draws, step in ((0, 5), (3, 5), (0, 6)):
        torch.manual_seed(0)
        model = UNet(3, features=(4,), dropout=.5)
        torch.rand(stray_draws)
        batches = iter([(torch.full((2, 3, 8, 8), 90, dtype=torch.uint8), torch.ones(2, 8, 8, dtype=torch.uint8))])
        optimizer, scaler = torch.optim.AdamW(model.parameters()), torch.amp.GradScaler("cpu", enabled=False)
        losses.append(train.train_step(model, batches, utils.make_loss("ce"), optimizer, scaler, utils.Place("cpu", "fp32"), step, .1))
    assert losses[0] == losses[1] != losses[2]


def test_row_12_a_loss_that_is_not_a_number_stops_the_run_before_the_weights_change(monkeypatch):
    model = UNet(3, features=(4,))
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    batches = iter([(torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 8, 8, dtype=torch.uint8))])
    optimizer, scaler = torch.optim.AdamW(model.parameters()), torch.amp.GradScaler("cpu", enabled=False)
    monkeypatch.setattr(train, "accum_steps", 1)
    with pytest.raises(InputError, match="the loss is nan at step 7"):
        train.train_step(model, batches, lambda logits, masks: logits.sum() * math.nan, optimizer, scaler, utils.Place("cpu", "fp32"), 7, .1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.named_parameters())


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
    run_train(dataset="own", run_dir="run", device="cuda", precision=precision, compile_model=precision == "bf16")
    saved = utils.load_checkpoint(tmp_path / "unet_model.pth")  # row 31
    build_model(**saved["model"]).load_state_dict(saved["weights"])
