"""What a run goes on from is checked before any of it is taken up, and its best weights must still
be there."""

import math
import shutil
from pathlib import Path

from toolbox.errors import InputError
from toolbox.muon import make_optimizer, state_names

import pytest
import torch
from conftest import draw_squares
from test_resume import LONG, assert_same

import inference
import train
from model import build_model
from utils import load_checkpoint, save_checkpoint

SHORT = dict(training_iterations=6, eval_interval=2, save_model_interval=2, dataset="own")


@pytest.fixture
def run(run_train, tmp_path, monkeypatch) -> Path:
    """A run of six steps that is over."""
    draw_squares(tmp_path / "own", 8)
    run_train(**SHORT, run_dir="run")
    return Path("run")


@pytest.fixture
def no_reading(monkeypatch):
    """What is amiss is said before any picture is read."""

    def stop() -> None:
        monkeypatch.setattr(train, "prepare", None)

    return stop


# ---- last.pth ----


@pytest.mark.parametrize("resume", ["true", "run", "run/last.pth"])
def test_a_last_pth_that_is_a_copied_best_pth_is_refused_before_pictures_are_read(
    run_train, run, no_reading, resume
):
    shutil.copy(run / "best.pth", run / "last.pth")
    run.parent.joinpath("TrainingOutput").mkdir()
    shutil.copytree(run, "TrainingOutput/run")
    no_reading()
    with pytest.raises(InputError, match="last.pth lacks what going on needs, as a best.pth does"):
        run_train(**SHORT, resume=resume)


def test_torchrun_that_starts_again_passes_over_a_last_pth_that_is_none(
    run_train, run, monkeypatch
):
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    for name, content in (("copied", (run / "best.pth").read_bytes()), ("torn", b"PK")):
        folder = Path("TrainingOutput", name)
        folder.mkdir(parents=True)
        (folder / "last.pth").write_bytes(content)
    saved = load_checkpoint(run / "last.pth")
    saved["resume"] = 3
    Path("TrainingOutput/odd").mkdir()
    save_checkpoint(Path("TrainingOutput/odd/last.pth"), saved)
    run_train(**SHORT)
    assert run_train.status == 0 and len(list(Path("TrainingOutput").iterdir())) == 4


def broken(saved: dict, place: str, value: object) -> dict:
    """A last.pth with another value at a place such as resume/rates/0, or without it."""
    *parents, name = [int(part) if part.isdecimal() else part for part in place.split("/")]
    inner = saved
    for parent in parents:
        inner = inner[parent]
    if value is KeyError:
        del inner[name]
    else:
        inner[name] = value
    return saved


def spoil(path: Path, content: bytes, place: str, value: object) -> None:
    """A checkpoint that was this, with another value in one place."""
    path.write_bytes(content)
    save_checkpoint(path, broken(load_checkpoint(path), place, value))


GROUP = "resume/optimizer/param_groups/0"
STATE = "resume/optimizer/state"
ALONE = [
    ("resume/rates", KeyError, "it lacks rates, which going on needs"),
    ("resume/whim", 1, "it has 'whim' to go on from, which is unknown here"),
    ("resume/rates", [0.1], "its rates is .0.1.; expected a list of 6, one for each step"),
    ("resume/rates/2", math.nan, "its rates is .*; expected numbers, 0 or more"),
    ("resume/rates/2", "0.1", "its rates is"),
    ("step", 5, "its evaluation 3's step is 6; expected 5 to 5|a list of 5"),
    ("step", KeyError, "it doesn't tell its step or its constants"),
    ("resume/history", None, "its history is None"),
    ("resume/history/1/val_loss", KeyError, "its evaluation 2 is"),
    ("resume/history/1/val_loss", None, "its evaluation 2's val_loss is None"),
    ("resume/history/1/step", 1.0, "its evaluation 2's step is 1.0"),
    ("resume/history/1/step", 2, "its evaluation 2's step is 2; expected 3 to 6"),
    ("resume/seen", [], "its seen is"),
    ("resume/seen/4", torch.full((2, 16, 16), 3, dtype=torch.uint8), "of step 4 has other classes"),
    ("resume/seen/4", torch.zeros(2, 16, 15, dtype=torch.uint8), "its prediction of step 4 is"),
    ("resume/seen/4", torch.zeros(2, 16, 16), "its prediction of step 4 is"),
    ("resume/skipped", -1, "its skipped is -1"),
    ("resume/processes", 0, "its processes is 0"),
    ("resume/seconds", math.inf, "its seconds is inf"),
    ("resume/data", None, "its data is None"),
    ("resume/launch", 1, "its launch is 1"),
    ("resume/optimizer", None, "its optimizer is None"),
    ("resume/weights", [], "its weights is"),
]


def test_what_a_run_goes_on_from_is_checked_before_pictures_are_read(run_train, run, no_reading):
    content = (run / "last.pth").read_bytes()
    no_reading()
    for place, value, said in ALONE:
        spoil(run / "last.pth", content, place, value)
        with pytest.raises(InputError, match=f"run/last.pth is not as train.py wrote it: .*{said}"):
            run_train(**SHORT, resume="run")


BESIDE = [
    ("weights/head.bias", torch.zeros(4), "does not fit the net that it describes: head.bias is"),
    ("resume/weights", {"a": torch.zeros(1)}, "does not fit the net that it describes: it lacks"),
    (f"{GROUP}/params", KeyError, "its optimizer's group is"),
    (f"{GROUP}/params", [1, 0], "its optimizer's params is .1, 0."),
    (f"{GROUP}/weight_decay", 7.0, "its optimizer's weight_decay is 7.0; expected 0.1"),
    (f"{GROUP}/lr", "fast", "its optimizer's lr is 'fast'"),
    ("resume/optimizer/param_groups", [], "its optimizer's groups is"),
    ("resume/optimizer/state", KeyError, "its optimizer's state is not that of"),
    (f"{STATE}/0", KeyError, "its optimizer's state is not that of"),
    (f"{STATE}/0/momentum", KeyError, "its optimizer's state of 0 is"),
    (f"{STATE}/0/momentum", torch.zeros(4, 3, 3, 2), "its optimizer's momentum of 0 is not like"),
    (f"{STATE}/1/exp_avg_sq", torch.full((4,), -1.0), "its optimizer's exp_avg_sq of 1 is not lik"),
    (f"{STATE}/1/exp_avg", torch.full((4,), math.nan), "its optimizer's exp_avg of 1 is not like"),
    (f"{STATE}/1/step", 3, "its optimizer's step of 1 is not like"),
    ("resume/scaler", {"scale": 2.0}, "its scaler is"),
]


def test_what_a_run_goes_on_from_fits_its_net_and_its_optimizer(run_train, run):
    content = (run / "last.pth").read_bytes()
    for place, value, said in BESIDE:
        spoil(run / "last.pth", content, place, value)
        with pytest.raises(InputError, match=f"run/last.pth .*{said}"):
            run_train(**SHORT, resume="run")


def test_averaged_weights_do_not_stand_in_for_raw_ones_that_are_gone(run_train, tmp_path):
    draw_squares(tmp_path / "own", 8)
    run_train(**SHORT, run_dir="run", ema_decay=0.9)
    saved = load_checkpoint(Path("run/last.pth"))
    saved["resume"]["weights"] = {}
    save_checkpoint(Path("run/last.pth"), saved)
    with pytest.raises(InputError, match="run/last.pth does not fit .*: it lacks the weights mean"):
        run_train(**SHORT, ema_decay=0.9, resume="run")


def test_what_torch_itself_refuses_of_a_state_ends_in_a_sentence(run_train, run, monkeypatch):
    def refuse(*_):
        raise KeyError("growth")

    monkeypatch.setattr(torch.optim.Optimizer, "load_state_dict", refuse)
    with pytest.raises(
        InputError, match="run/last.pth can't be taken up .KeyError: 'growth'.; put"
    ):
        run_train(**SHORT, resume="run")


@pytest.mark.parametrize("name", ["muon", "adamw"])
@pytest.mark.parametrize("options", [{}, {"architecture": "unet++", "deep_supervision": True}])
def test_what_an_optimizer_keeps_is_known(name, options):
    model = build_model(**{"architecture": "unet", "num_classes": 3, "features": [4, 8], **options})
    optimizer = make_optimizer(name, model, 0.01, 0.1)
    model(torch.zeros(1, 3, 8, 8)).sum().backward()
    optimizer.step()
    for parameter in model.parameters():
        assert optimizer.state[parameter].keys() == state_names(optimizer, parameter)


def test_a_run_stopped_before_its_first_step_goes_on(run_train, tmp_path):
    draw_squares(tmp_path / "own", 8)
    run_train(**SHORT, run_dir="straight")
    saves = train.Training.save

    def save_and_stop(training) -> None:
        saves(training)
        raise InputError("stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train.Training, "save", save_and_stop)
        with pytest.raises(InputError, match="stopped"):
            run_train(**SHORT, run_dir="run")
    assert load_checkpoint(Path("run/last.pth"))["step"] == 0
    run_train(**SHORT, resume="run")
    assert_same(Path("straight"), Path("run"))


def test_a_run_of_before_goes_on_and_says_that_it_has_no_digests(run_train, run, capsys):
    for name in ("last.pth", "best.pth"):
        saved = torch.load(run / name, weights_only=True)
        del saved["digest"]
        torch.save(saved, run / name)
    capsys.readouterr()
    run_train(**SHORT, resume="run")
    said = capsys.readouterr().err
    assert said.count("last.pth was written before checkpoints had a digest") == 1
    assert said.count("best.pth was written before checkpoints had a digest") == 1


# ---- best.pth ----


@pytest.mark.parametrize("is_over", [True, False])
def test_a_run_whose_best_pth_is_gone_or_spoilt_does_not_go_on_without(
    run_train, run, no_reading, is_over
):
    """Else the best so far would be lost, and nobody would know until the end."""
    steps = 6 if is_over else 12
    best, again = run / "best.pth", {**SHORT, "training_iterations": steps, "resume": "run"}
    content, published = best.read_bytes(), Path("unet_model.pth").read_bytes()
    Path("unet_model.pth").unlink()
    for spoil, said in (
        (best.unlink, "run/best.pth is gone"),
        (lambda: best.write_bytes(content[:3000]), "run/best.pth is cut off: only 3,000 bytes"),
    ):
        best.write_bytes(content)
        spoil()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(train, "prepare", None)
            with pytest.raises(InputError, match=f"{said}.*; the run's best weights so far, of st"):
                run_train(**again)
    Path("unet_model.pth").write_bytes(published)
    with pytest.raises(InputError, match="unet_model.pth holds the same: copy it to run/best.pth"):
        run_train(**again)
    shutil.copy("unet_model.pth", best)
    run_train(**again)
    assert run_train.status == 0


def test_a_best_pth_of_another_evaluation_is_not_taken_for_the_runs(run_train, run):
    saved = load_checkpoint(run / "best.pth")
    saved["metrics"]["val_mean_iou"] += 0.1
    save_checkpoint(run / "best.pth", saved)
    with pytest.raises(InputError, match="and not of the run's best evaluation; the run's best"):
        run_train(**SHORT, resume="run")


def test_a_last_pth_of_the_best_evaluation_can_stand_in_for_best_pth(run_train, run, tmp_path):
    saved = load_checkpoint(run / "last.pth")
    for row in saved["resume"]["history"][:-1]:
        row["val_mean_iou"] = 0.0  # so that the last one is the best
    save_checkpoint(run / "last.pth", saved)
    (run / "best.pth").unlink()
    Path("unet_model.pth").unlink()
    with pytest.raises(InputError, match="run/last.pth holds the same: copy it to run/best.pth"):
        run_train(**SHORT, resume="run")
    shutil.copy(run / "last.pth", run / "best.pth")
    run_train(**SHORT, resume="run")
    assert run_train.status == 0


def test_a_kill_between_the_saves_of_best_and_last_is_no_hindrance(run_train, tmp_path):
    """best.pth is then of a later evaluation than last.pth knows of."""
    draw_squares(tmp_path / "own", 10)
    settings = {**LONG, "dataset": "own"}
    run_train(**settings, run_dir="straight")
    run_train(**{**settings, "training_iterations": 6}, run_dir="run")
    shutil.copy("straight/best.pth", "run/best.pth")
    later = load_checkpoint(Path("run/best.pth"))["step"]
    assert later > 6
    run_train(**settings, resume="run")
    assert_same(Path("straight"), Path("run"))


def test_a_best_pth_that_is_spoilt_meanwhile_ends_the_run_in_a_sentence(run_train, run):
    learn = train.learn

    def learn_and_spoil(training) -> int:
        number = learn(training)
        saved = load_checkpoint(run / "best.pth")
        saved["model"]["features"] = [8, 8]
        save_checkpoint(run / "best.pth", saved)
        saved["weights"] = build_model(**saved["model"]).state_dict()
        save_checkpoint(run / "best.pth", saved)
        return number

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "learn", learn_and_spoil)
        with pytest.raises(InputError, match="run/best.pth does not fit the net"):
            run_train(**SHORT, resume="run")


def test_a_last_pth_colours_pictures_like_any_checkpoint(run, monkeypatch):
    Path("InferenceOutput").mkdir()
    shutil.copytree("own/images", "InferenceOutput/TestImages")
    monkeypatch.setattr(inference, "checkpoint", "run/last.pth")
    monkeypatch.setattr(inference, "device", "cpu")
    assert inference.main() == 0
    assert len(list(Path("InferenceOutput/TestPredictions").glob("p?.png"))) == 8
