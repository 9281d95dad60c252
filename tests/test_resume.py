"""A run that was stopped anywhere and taken up again ends as one that never was stopped: to the
bit, on the CPU."""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

from toolbox import files
from toolbox.errors import InputError
from toolbox.watch import Thinned

import pytest
import torch
from conftest import ROOT, TINY, draw_squares

import train
from utils import load_checkpoint

LONG = dict(training_iterations=12, eval_interval=3, save_model_interval=2, dropout=0.2)


def outcome(run: Path) -> tuple:
    """What has to be the same: all weights, the optimizer's state, what learning.png shows, history
    and report without times."""
    saved, best = load_checkpoint(run / "last.pth"), load_checkpoint(run / "best.pth")
    state = saved["resume"]
    tensors = {
        **saved["weights"],
        **{f"raw {name}": tensor for name, tensor in state["weights"].items()},
        **{f"best {name}": tensor for name, tensor in best["weights"].items()},
        **{f"seen {step}": preds for step, preds in state["seen"].items()},
    }
    for number, entry in state["optimizer"]["state"].items():
        tensors |= {f"{number} {name}": torch.as_tensor(value) for name, value in entry.items()}
    with open(run / "history.csv", newline="") as file:
        history = list(csv.DictReader(file))
    for row in history:
        del row["seconds"]
    report = json.loads((run / "report.json").read_text())
    for name in ("seconds", "images_per_second"):
        del report[name]
    groups = state["optimizer"]["param_groups"]
    return tensors, history, report, (saved["step"], best["step"], state["rates"], groups)


def assert_same(run: Path, other: Path) -> None:
    (tensors, *rest), (other_tensors, *other_rest) = outcome(run), outcome(other)
    assert rest == other_rest
    assert tensors.keys() == other_tensors.keys() and all(
        torch.equal(tensor, other_tensors[name]) for name, tensor in tensors.items()
    )


@pytest.fixture
def stop_after(monkeypatch):
    """Send this process a signal in the given step."""
    take = train.Training.take_step

    def plan(step: int, number: int = signal.SIGTERM) -> None:
        def take_and_signal(training, batches):
            if training.step + 1 == step:
                os.kill(os.getpid(), number)
            return take(training, batches)

        monkeypatch.setattr(train.Training, "take_step", take_and_signal)

    return plan


@pytest.mark.parametrize(
    "options",
    [
        dict(),
        dict(accum_steps=2),
        dict(ema_decay=0.9),
        dict(architecture="unet++", deep_supervision=True),
        dict(lr_schedule="plateau", plateau_patience=1),
        dict(accum_steps=2, ema_decay=0.9, lr_schedule="cosine"),
        dict(training_scale=(0.5, 0.75, 1.0), accum_steps=2, mix=0.5),
    ],
    ids=str,
)
def test_row_14_stopped_at_random_points_with_other_workers_a_run_ends_the_same(
    run_train, tmp_path, monkeypatch, stop_after, options
):
    draw_squares(tmp_path / "own", 10)
    settings = {**LONG, **options, "dataset": "own"}
    run_train(**settings, run_dir="straight")
    for attempt, stop in enumerate(random.Random(str(options)).sample(range(1, 12), 4)):
        stop_after(stop)
        run_train(**settings, run_dir=f"split{attempt}", num_workers=attempt % 3)
        assert (
            run_train.status == 143
            and load_checkpoint(tmp_path / f"split{attempt}" / "last.pth")["step"] == stop
        )
        stop_after(0)
        run_train(**settings, resume=f"split{attempt}", num_workers=(attempt + 1) % 3)
        assert run_train.status == 0
        assert_same(tmp_path / "straight", tmp_path / f"split{attempt}")


@pytest.mark.skipif(
    os.name != "posix", reason="signals to a group of processes are a matter of Unix"
)
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_step_in_hand_saves_and_says_how_to_go_on(project, number, status):
    draw_squares(project / "own", 8)
    settings = [
        f"{name}={value}"
        for name, value in {
            **TINY,
            "dataset": "own",
            "training_iterations": 100000,
            "num_workers": 1,
            "save_model_interval": 100000,
        }.items()
    ]
    process = subprocess.Popen(
        [sys.executable, "train.py", *settings],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.time() + 120
    while not list(project.glob("TrainingOutput/*/history.csv")) and time.time() < deadline:
        time.sleep(0.2)
    os.killpg(process.pid, number)  # as the terminal does it: to the workers too
    out, errors = process.communicate(timeout=60)
    assert process.returncode == status and "Traceback" not in errors, errors
    run = next(project.glob("TrainingOutput/*"))
    assert f"to go on: python train.py {settings[0]}" in out and out.strip().endswith(
        f"resume=TrainingOutput/{run.name}"
    )
    step = load_checkpoint(run / "last.pth")["step"]
    assert step > 0 and f"stopped after step {step};" in out
    shorter = [
        f"training_iterations={step + 2}" if "training_iterations" in setting else setting
        for setting in settings
    ]
    done = subprocess.run(
        [sys.executable, "train.py", *shorter, "resume=true"],
        cwd=project,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"goes on after step {step}" in done.stdout and (run / "report.json").exists()


def test_what_would_change_the_run_is_refused_by_name_with_both_values_and_the_rest_may_change(
    run_train, tmp_path, stop_after
):
    draw_squares(tmp_path / "own", 8)
    settings = {**LONG, "dataset": "own", "base_lr": 0.02}
    stop_after(5)
    run_train(**settings, run_dir="run")
    for changed, sentence in (
        (dict(base_lr=0.5), r"base_lr is 0.5 and was 0.02"),
        (dict(features=(4, 4)), r"features is \[4, 4\] and was \[4, 8\]"),
        (dict(seed=3), "seed is 3 and was 0"),
    ):
        with pytest.raises(InputError, match=sentence):
            run_train(**{**settings, **changed}, resume="run")
    run_train(
        **{**settings, "training_iterations": 14, "save_model_interval": 5},
        resume="run",
        cache=False,
    )
    assert load_checkpoint(tmp_path / "run" / "last.pth")["step"] == 14


@pytest.mark.parametrize(
    "schedule",
    [
        dict(lr_schedule="cosine"),
        dict(decay_factor=0.0),
        dict(lr_schedule="plateau", training_scale=(0.5, 1.0)),
    ],
    ids=str,
)
def test_a_cosine_schedule_keeps_its_length(run_train, tmp_path, stop_after, schedule):
    """And so does the square root that falls until the last step, and a run whose pictures grow."""
    draw_squares(tmp_path / "own", 8)
    stop_after(5)
    run_train(**LONG, dataset="own", run_dir="run", **schedule)
    longer = {**LONG, **schedule, "training_iterations": 20}
    with pytest.raises(InputError, match="training_iterations is 20 and was 12"):
        run_train(**longer, dataset="own", resume="run")
    stop_after(0)
    run_train(**LONG, dataset="own", resume="run", **schedule)
    assert run_train.status == 0


def test_changed_pictures_are_refused_on_resuming(run_train, tmp_path, stop_after):
    draw_squares(tmp_path / "own", 8)
    stop_after(5)
    run_train(**LONG, dataset="own", run_dir="run")
    draw_squares(tmp_path / "own", 8, seed=1)
    with pytest.raises(InputError, match="the pictures or masks of own have changed"):
        run_train(**LONG, dataset="own", resume="run")


def test_a_run_of_before_muon_goes_on_with_adamw_alone(run_train, tmp_path):
    draw_squares(tmp_path / "own", 12)
    run_train(dataset="own", run_dir="run", optimizer="adamw")
    saved = torch.load(tmp_path / "run" / "last.pth", weights_only=True)
    for name in ("optimizer", "patch", "augment_strength", "training_scale", "folds", "mix"):
        del saved["constants"][name]
    del saved["digest"]
    torch.save(saved, tmp_path / "run" / "last.pth")
    with pytest.raises(InputError, match="optimizer is 'muon' and was 'adamw'"):
        run_train(dataset="own", run_dir="run", resume="run", optimizer="muon")
    run_train(dataset="own", run_dir="run", resume="run", optimizer="adamw")


def test_resuming_a_finished_run_writes_its_report_again(run_train, tmp_path):
    draw_squares(tmp_path / "own", 8)
    run_train(**LONG, dataset="own", run_dir="run")
    before = (tmp_path / "run" / "report.json").read_bytes()
    (tmp_path / "run" / "report.json").unlink()
    run_train(**LONG, dataset="own", resume="run")
    assert (
        json.loads((tmp_path / "run" / "report.json").read_text())["test"]
        == json.loads(before)["test"]
    )


@pytest.mark.parametrize(
    "resume, run_dir, said",
    [
        (
            "true",
            "",
            "there is no run in TrainingOutput yet to go on with; start one: python train",
        ),
        ("true", "mine", "there is no run in mine yet to go on with; start one"),
        ("nowhere", "", "resume is 'nowhere', but there is no folder nowhere; expected a run's"),
        ("x" * 5000, "", "but there is no folder xx"),
    ],
    ids=["none", "run_dir", "nowhere", "long"],
)
def test_resuming_without_a_run_says_so_before_anything_is_read(
    run_train, monkeypatch, resume, run_dir, said
):
    monkeypatch.setattr(train, "prepare", None)
    with pytest.raises(InputError, match=said):
        run_train(dataset="own", resume=resume, run_dir=run_dir)


def test_a_run_is_not_gone_on_with_in_another_folder(run_train, tmp_path):
    draw_squares(tmp_path / "own", 12)
    run_train(dataset="own", run_dir="run")
    with pytest.raises(InputError, match="resume is 'run' and run_dir is 'other', but a run goes"):
        run_train(dataset="own", resume="run", run_dir="other")
    assert not (tmp_path / "other").exists()
    run_train(dataset="own", resume="run/last.pth", run_dir="./run")


@pytest.mark.skipif(os.name != "posix", reason="such disks are a matter of Unix")
@pytest.mark.parametrize(
    "number, reason",
    [(38, "this disk knows no locks|does not appear to support flock"), (37, "No locks available")],
)
def test_a_disk_that_knows_no_locks_is_no_hindrance(tmp_path, monkeypatch, capsys, number, reason):
    import fcntl

    def unknown(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unknown)
    monkeypatch.setattr(files, "PATIENCE", 0)
    (tmp_path / "last.pth").touch()
    for _ in range(2):
        with files.locked(tmp_path):
            assert re.search(f"can't be locked .*({reason})", capsys.readouterr().out)
        assert [path.name for path in tmp_path.iterdir()] == ["last.pth"]


def test_two_runs_in_one_folder_are_refused(run_train, tmp_path):
    draw_squares(tmp_path / "own", 8)
    run_train(**LONG, dataset="own", run_dir="run")
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; sys.path.insert(0, sys.argv[1]); import pathlib, time\n"
            "from toolbox.files import locked\n"
            "with locked(pathlib.Path('run')): print('held', flush=True); time.sleep(60)",
            str(ROOT),
        ],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="run is being written by another run"):
            run_train(**LONG, dataset="own", resume="run")
    finally:
        holder.kill()
        holder.communicate()
    run_train(**LONG, dataset="own", resume="run")  # the lock went with its process


def test_the_only_copy_of_a_model_is_kept_when_a_new_run_replaces_it(run_train, tmp_path):
    draw_squares(tmp_path / "own", 8)
    run_train(dataset="own", run_dir="first")
    run_train(dataset="own", run_dir="second", seed=1)  # first/best.pth is a copy
    assert not list(tmp_path.glob("unet_model-*.pth"))
    only = (tmp_path / "unet_model.pth").read_bytes()
    (tmp_path / "second" / "best.pth").unlink()
    run_train(dataset="own", run_dir="third", seed=2)
    (kept,) = tmp_path.glob("unet_model-*.pth")
    assert kept.read_bytes() == only
    new = (tmp_path / "unet_model.pth").read_bytes()
    assert only != new == (tmp_path / "third" / "best.pth").read_bytes()


def test_a_strangers_unet_model_is_kept_and_not_loaded(run_train, tmp_path, capsys):
    draw_squares(tmp_path / "own", 8)
    torch.save({"head.weight": torch.zeros(1)}, tmp_path / "unet_model.pth")
    strangers = (tmp_path / "unet_model.pth").read_bytes()
    run_train(dataset="own", run_dir="run")
    (kept,) = tmp_path.glob("unet_model-*.pth")
    assert kept.read_bytes() == strangers and "it is kept as" in capsys.readouterr().out
    assert (tmp_path / "unet_model.pth").read_bytes() == (
        tmp_path / "run" / "best.pth"
    ).read_bytes()


def test_what_a_kill_left_in_the_run_is_taken_away(run_train, tmp_path):
    draw_squares(tmp_path / "own", 8)
    run_train(**LONG, dataset="own", run_dir="run")
    (tmp_path / "run" / ".last.pth.123.tmp").write_bytes(b"half")
    run_train(**LONG, dataset="own", resume="run")
    assert not list((tmp_path / "run").glob(".*"))


def test_an_error_ends_the_workers_too(project):
    draw_squares(project / "own", 8)
    settings = {
        **TINY,
        "dataset": "own",
        "num_workers": 1,
        "base_lr": 1e30,
        "warmup_steps": 0,
        "training_iterations": 100,
        "eval_interval": 100,
        "grad_clip": 0,
    }
    done = subprocess.run(
        [sys.executable, "train.py", *(f"{name}={value}" for name, value in settings.items())],
        cwd=project,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (
        done.returncode == 1
        and "start again with a lower base_lr" in done.stderr
        and "Traceback" not in done.stderr
    )


@pytest.mark.parametrize("resume", ["run", "run/last.pth"])
def test_a_run_is_named_by_its_folder_or_its_last_pth(run_train, tmp_path, stop_after, resume):
    draw_squares(tmp_path / "own", 8)
    stop_after(5)
    run_train(**LONG, dataset="own", run_dir="run")
    stop_after(0)
    run_train(**LONG, dataset="own", resume=resume)
    assert run_train.status == 0
    assert load_checkpoint(tmp_path / "run" / "last.pth")["step"] == 12


NO_RUNS = {
    "run/best.pth": "a file that no run goes on from; expected run, where its last.pth lies",
    "run/history.csv": "a file that no run goes on from; expected run, where its last.pth lies",
    "other/last.pth": "but there is no folder other; expected a run's, or its last.pth",
    "own": "but own holds no run that could go on .no last.pth.; start one with resume=",
}


def test_what_is_no_run_is_refused_in_a_sentence(run_train, tmp_path):
    draw_squares(tmp_path / "own", 8)
    run_train(dataset="own", run_dir="run")
    for resume, said in NO_RUNS.items():
        with pytest.raises(InputError, match=f"resume is '{resume}', {said}"):
            run_train(dataset="own", resume=resume)


def test_learning_shows_steps_of_before_and_after_a_stop(run_train, tmp_path, stop_after):
    draw_squares(tmp_path / "own", 10)
    run_train(**LONG, dataset="own", run_dir="straight")
    stop_after(7)
    run_train(**LONG, dataset="own", run_dir="run")
    stop_after(0)
    run_train(**LONG, dataset="own", resume="run")
    saved = load_checkpoint(tmp_path / "run" / "last.pth")
    assert list(saved["resume"]["seen"]) == [3, 6, 9, 12]
    drawn = [(tmp_path / run / "learning.png").read_bytes() for run in ("straight", "run")]
    assert drawn[0] == drawn[1]


def test_a_run_of_before_goes_on_without_what_it_did_not_keep(run_train, tmp_path):
    draw_squares(tmp_path / "own", 10)
    run_train(**LONG, dataset="own", run_dir="run")
    saved = torch.load(tmp_path / "run" / "last.pth", weights_only=True)
    del saved["resume"]["seen"], saved["digest"]
    torch.save(saved, tmp_path / "run" / "last.pth")
    (tmp_path / "run" / "learning.png").unlink()
    run_train(**LONG, dataset="own", resume="run")
    assert run_train.status == 0 and not (tmp_path / "run" / "learning.png").exists()


def test_of_many_predictions_a_few_are_kept_evenly():
    seen = Thinned()
    for step in range(10, 2000, 10):
        seen.add(step, torch.tensor(step))
        steps = sorted(seen)
        assert len(steps) == min(8, step // 10) and (steps[0], steps[-1]) == (10, step)
        gaps = [after - before for before, after in zip(steps, steps[1:])]
        assert max(gaps, default=0) <= max(20, 2.01 * (step - 10) / 7)
    assert all(seen[step] == step for step in seen)
