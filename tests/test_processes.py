"""Many processes on one machine, started by torchrun as a user does it."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from toolbox.machine import Place

import pytest
import torch
from conftest import ROOT, TINY, draw_squares
from test_resume import assert_same

import dataset
import train
from utils import load_checkpoint, save_checkpoint

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="torchrun's processes and their signals are those of Unix"
)
SETTINGS = {**TINY, "dataset": "own", "training_iterations": 12, "eval_interval": 3, "dropout": 0.2}


def torchrun(count: int, script: Path, *arguments: str, restarts: int = 0) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={count}",
        f"--max-restarts={restarts}",
        str(script),
        *arguments,
    ]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def run(count: int, script: Path, *arguments: str, restarts: int = 0) -> tuple[int, str, str]:
    process = torchrun(count, script, *arguments, restarts=restarts)
    try:
        out, errors = process.communicate(timeout=180)
    finally:
        process.kill()
    return process.returncode, out, errors


def settings(**changed) -> list[str]:
    return [f"{name}={value}" for name, value in {**SETTINGS, **changed}.items()]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    draw_squares(tmp_path / "own", 10)
    return tmp_path


def script(folder: Path, text: str) -> Path:
    """A program that has train.py as `train` and its constants from the command line."""
    path = folder / "script.py"
    lines = [
        "import os, signal, sys",
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]",
        "import torch, dataset, train",
        "from toolbox import machine, processes, settings",
        text,
        "settings.run_script(vars(train), main)",
    ]
    path.write_text("\n".join(lines))
    return path


GRADIENTS = """
build = train.build_model
def without_batch_norm(**arguments):
    model = build(**arguments)
    for block in model.modules():
        if isinstance(block, torch.nn.Sequential):
            block[1], block[4] = torch.nn.Identity(), torch.nn.Identity()
    return model

def main():
    train.build_model = without_batch_norm
    place = machine.Place("cpu", "fp32")
    processes.join_processes(place.device)
    data = processes.once_a_machine(lambda: dataset.prepare("own", "", (16, 16)))
    training = train.Training(data, place)
    kept = {}
    def keep():
        for name, parameter in training.model.named_parameters():
            if parameter.grad is not None:
                kept[name] = parameter.grad.clone()
    training.optimizer.step = keep
    share = processes.rank(), processes.processes()
    batches = train.training_batches(training.stream, train.batch_size, 0, 0, *share)
    kept["loss"] = torch.tensor(training.take_step(batches))
    torch.save(kept, f"{train.run_dir}-{processes.rank()}.pth")
"""


@pytest.mark.parametrize("count", [2, 4])
def test_a_step_of_n_processes_has_the_gradients_of_one_with_all_their_pictures(folder, count):
    program = script(folder, GRADIENTS)
    for processes, batch, name in ((1, 2 * count, "one"), (count, 2, "many")):
        status, _, errors = run(
            processes,
            program,
            *settings(batch_size=batch, accum_steps=2, dropout=0, grad_clip=0, run_dir=name),
        )
        assert status == 0, errors
    whole = torch.load(folder / "one-0.pth")
    for number in range(count):
        part = torch.load(folder / f"many-{number}.pth")
        assert part.keys() == whole.keys() and len(whole) > 10
        for name, gradient in whole.items():
            assert torch.allclose(
                part[name], gradient, rtol=0, atol=1e-5 * gradient.abs().max().item()
            ), name


def test_two_processes_train_judge_and_leave_what_one_leaves_and_share_no_picture(
    folder, monkeypatch
):
    status, out, errors = run(2, ROOT / "train.py", *settings(run_dir="run", eval_iterations=0))
    assert status == 0 and "2 processes" in out, errors
    names = {str(path.relative_to(folder / "run")) for path in (folder / "run").rglob("*.p*")}
    assert names == {
        *("best.pth", "last.pth", "curves.png", "learning_rate.png", "confusion.png"),
        *("learning.png", "worst.png", "classes.png"),
        *(f"predictions/step_{step:06d}.png" for step in (3, 6, 9, 12)),
    }
    assert out.count("mean Dice") == 1 and not list((folder / "run").glob(".*"))
    with open(folder / "run" / "history.csv", newline="") as file:
        history = list(csv.DictReader(file))
    assert [int(row["images_seen"]) for row in history] == [12, 24, 36, 48]
    for name, value in {**SETTINGS, "eval_iterations": 0}.items():
        monkeypatch.setattr(train, name, value)
    data = dataset.prepare("own", "", (16, 16))
    training = train.Training(data, Place("cpu", "fp32"))
    training.model.load_state_dict(load_checkpoint(folder / "run" / "last.pth")["weights"])
    split = training.splits["val"]
    alone = train.quick_scores(training.model, split, training.loss_of, training.place)
    for name in ("loss", "pixel_accuracy", "mean_iou"):
        assert float(history[-1][f"val_{name}"]) == pytest.approx(alone[name], rel=1e-5)
    training.model.load_state_dict(load_checkpoint(folder / "run" / "best.pth")["weights"])
    alone = train.judge(training.model, training.splits["test"], training.place)
    report = json.loads((folder / "run" / "report.json").read_text())
    assert report["test"] == alone.report(data.table.names, [""] * len(alone.pictures))
    seen = [
        range(start, start + 3) for number in range(2) for start in [3 * number, 6 + 3 * number]
    ]
    batches = [train.training_batches(training.stream, 3, 0, 0, number, 2) for number in range(2)]
    for positions, number in zip(seen, (0, 0, 1, 1)):
        _, masks = next(batches[number])
        expected = torch.stack([training.stream[position][1] for position in positions])
        assert torch.equal(masks, expected)


KILLED = """
take = train.Training.take_step
def take_and_die(training, batches):
    start = os.environ["TORCHELASTIC_RESTART_COUNT"]
    if (processes.rank(), start, training.step) == (1, "0", 7):
        os.kill(os.getpid(), signal.SIGKILL)
    return take(training, batches)
train.Training.take_step = take_and_die
main = train.main
"""


def test_row_14_a_killed_worker_is_started_again_and_the_run_ends_the_same(folder):
    options = dict(ema_decay=0.9, accum_steps=2)
    status, _, errors = run(2, ROOT / "train.py", *settings(run_dir="straight", **options))
    assert status == 0, errors
    program = script(folder, KILLED)
    # In a folder of the user's, and in one that has to be found again.
    for place in (dict(run_dir="killed"), dict()):
        status, out, errors = run(2, program, *settings(**options, **place), restarts=2)
        assert status == 0 and "it goes on after step 6" in out, errors
        killed = folder / "killed" if place else next(folder.glob("TrainingOutput/own-*"))
        assert_same(folder / "straight", killed)


def test_a_restart_before_anything_was_saved_begins_anew_and_takes_up_nobody_elses_run(folder):
    assert run(1, ROOT / "train.py", *settings())[0] == 0
    early = """
def main():
    if os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    return train.main()
"""
    status, out, errors = run(2, script(folder, early), *settings(), restarts=1)
    assert status == 0 and "goes on after" not in out, errors
    assert len(list(folder.glob("TrainingOutput/own-*/report.json"))) == 2


def test_a_signal_stops_all_processes_after_one_step_and_the_run_goes_on_with_as_many_alone(folder):
    process = torchrun(
        2,
        ROOT / "train.py",
        *settings(run_dir="run", training_iterations=100000, save_model_interval=100000),
    )
    deadline = time.time() + 120
    while not (folder / "run" / "history.csv").exists() and time.time() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, errors = process.communicate(timeout=120)
    step = load_checkpoint(folder / "run" / "last.pth")["step"]
    assert step > 0 and f"stopped after step {step};" in out and "Sending process" in errors
    status, _, errors = run(
        1, ROOT / "train.py", *settings(resume="run", training_iterations=step + 3)
    )
    assert status == 1 and "the number of processes is 1 and was 2" in errors
    status, out, errors = run(
        2, ROOT / "train.py", *settings(resume="run", training_iterations=step + 3)
    )
    assert status == 0 and f"it goes on after step {step}" in out, errors


def test_what_is_wrong_is_said_once(folder):
    status, _, errors = run(2, ROOT / "train.py", *settings(loss="mse"))
    assert status == 1 and errors.count("loss is 'mse'") == 1
    (folder / "own" / "masks" / "p3.png").write_bytes(b"torn")
    # The first process finds it while the others wait.
    status, _, errors = run(2, ROOT / "train.py", *settings())
    assert status == 1 and errors.count("p3.png can't be read") == 1
    ours = [*ROOT.glob("*.py"), ROOT / "toolbox"]  # an environment may lie in the project too
    assert not any(f'File "{path}' in errors for path in ours)
    assert "terminate called" not in errors


INFERENCE = """
import inference
from toolbox.colouring import Colouring
write = Colouring.write
def write_and_tell(self, picture, found):
    name = picture.job.path.name
    with open(f"done-{processes.rank()}.txt", "a") as file:
        print(name, file=file)
    done = write(self, picture, found)
    if name == "4.png" and not os.path.exists("killed"):
        open("killed", "w")
        os.kill(os.getpid(), signal.SIGKILL)
    return done
Colouring.write, inference.batch_size = write_and_tell, 1
main = inference.main
train = inference
"""


def test_inference_shares_the_pictures_out_and_does_what_is_missing_after_a_kill(folder):
    from test_inference import CLASSES, UNet, save

    arguments = dict(architecture="unet", num_classes=3, features=[4, 8])
    weights = UNet(3, features=[4, 8]).state_dict()
    saved = dict(format=1, model=arguments, weights=weights, classes=CLASSES, image_size=[16, 24])
    save_checkpoint(Path("unet_model.pth"), saved)
    place = folder / "InferenceOutput"
    (place / "TestImages").mkdir(parents=True)
    for i in range(7):
        save(place, f"{i}.png")
    program = script(folder, INFERENCE)

    def done() -> list[str]:
        found = []
        for number in range(2):
            found += Path(f"done-{number}.txt").read_text().split()
            Path(f"done-{number}.txt").write_text("")
        return found

    names = [f"{i}.png" for i in range(7)]
    assert run(2, program, "device=cpu")[0] == 1
    first = done()
    status, out, errors = run(2, program, "device=cpu")
    assert status == 0 and "7 of 7 pictures coloured" in out, errors
    second = done()
    assert sorted({*first, *second}) == names
    assert len(first) == len({*first}) and len(second) == len({*second})
    # One that was not finished when the kill came may be done again.
    begun = {name for name in first if first.index(name) > len(first) - 3} - {"4.png"}
    assert not {*first} & {*second} - begun
    page = place / "TestPredictions" / "index.html"
    assert page.read_text().count('class="shot"') == 7
    page.unlink()
    (place / "TestImages" / "bad.png").write_bytes(b"torn")
    status, out, errors = run(2, program, "device=cpu", "overwrite=true")
    assert page.read_text().count('class="shot"') == 7
    assert (
        status == 1
        and "7 of 8 pictures coloured, 7 of them in place of earlier ones, 1 could" in out
    )
    assert "bad.png can't be read" in errors
    assert sorted(done()) == names
    with open(place / "TestPredictions" / "predictions.csv", newline="") as file:
        assert [row["file"] for row in csv.DictReader(file)] == names
