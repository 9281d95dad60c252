"""What a run, a report and a cache write: never over or away what is somebody else's."""

import os
import shutil
import tempfile
import time
from pathlib import Path

from toolbox import files, runs
from toolbox.constants import read_constants
from toolbox.errors import InputError
from toolbox.files import LOCK
from toolbox.sources.streets import Streets

import pytest
import torch
from conftest import draw_squares
from trying import snapshot

import dataset
import train
from Dataset import make_streets
from utils import load_checkpoint

FOREIGN = (
    ["curves.png"],
    [".x.tmp"],
    [".lock"],
    ["notes.txt", ".best.pth.tmp"],
    ["report.json"],
    ["report.html"],
    ["best.pth", "history.csv"],
    ["predictions/step_000002.png"],
    ["learning_rate.png"],  # a run begins with it, but no lock says that one did
    [".learning_rate.png.12.tmp"],
    [LOCK, "curves.png"],
    [LOCK, ".best.pth.12.tmp"],
    [LOCK, "thumbs"],
)


def put(folder: Path, names: list[str]) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"somebody's own {name}".encode())


@pytest.mark.parametrize("names", FOREIGN, ids=" ".join)
def test_a_run_dir_that_holds_somebodys_files_is_refused_and_they_stay(run_train, tmp_path, names):
    draw_squares(tmp_path / "own", 4)
    put(tmp_path / "run", names)
    before = snapshot(tmp_path / "run")
    with pytest.raises(InputError, match="run_dir run holds files that are of no run .*; name an"):
        run_train(dataset="own", run_dir="run")
    assert snapshot(tmp_path / "run") == before


def test_the_refusal_names_three_files_and_says_how_many_there_are(run_train, tmp_path):
    draw_squares(tmp_path / "own", 4)
    put(tmp_path / "run", ["d", "c.png", "b", "a", ".DS_Store", "Thumbs.db"])
    with pytest.raises(InputError, match=r"\(a, b, c\.png, … 4 in all\)"):
        run_train(dataset="own", run_dir="run")


def test_what_file_managers_leave_makes_no_folder_somebodys(run_train, tmp_path):
    draw_squares(tmp_path / "own", 4)
    put(tmp_path / "run", [".DS_Store", "Thumbs.db"])
    run_train(dataset="own", run_dir="run")
    assert (tmp_path / "run" / "report.json").exists()
    assert (tmp_path / "run" / "Thumbs.db").read_bytes() == b"somebody's own Thumbs.db"


@pytest.mark.parametrize(
    "run_dir, sentence",
    [
        (".", "run_dir . holds files that are of no run"),
        ("own", "run_dir own holds files that are of no run"),
        ("own/classes.csv", "run_dir own/classes.csv is no folder"),
        ("own/classes.csv/run", "own/classes.csv/run can't be written .Not a directory"),
        ("own/images/run", "run_dir own/images/run lies in .*own/images, among the pictures of"),
        ("own/masks/a/b", "run_dir own/masks/a/b lies in .*own/masks, among the pictures of"),
        ("link", "run_dir link is no folder"),
        ("x" * 300, "x can't be written .File name too long"),
    ],
)
def test_a_run_dir_where_no_run_can_lie_is_refused(run_train, tmp_path, run_dir, sentence):
    draw_squares(tmp_path / "own", 4)
    (tmp_path / "link").symlink_to("nothing")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match=sentence):
        run_train(dataset="own", run_dir=run_dir)
    after = {name: what for name, what in snapshot(tmp_path).items() if "cache" not in name}
    assert after == before


@pytest.mark.parametrize("kind", ["file", "link"])
def test_a_training_output_that_is_no_folder_is_said_before_training(
    run_train, tmp_path, kind, monkeypatch
):
    draw_squares(tmp_path / "own", 4)
    monkeypatch.setattr(train.Training, "take_step", None)
    output = tmp_path / "TrainingOutput"
    output.write_text("mine") if kind == "file" else output.symlink_to("nothing")
    with pytest.raises(InputError, match="TrainingOutput is no folder"):
        run_train(dataset="own")
    assert not (tmp_path / "last.pth").exists()


def test_a_training_output_on_another_disk_may_be_linked_to(run_train, tmp_path):
    draw_squares(tmp_path / "own", 4)
    (tmp_path / "disk").mkdir()
    (tmp_path / "TrainingOutput").symlink_to("disk")
    run_train(dataset="own")
    assert list((tmp_path / "disk").glob("own-*/report.json"))


@pytest.mark.parametrize("kind", ["folder", "link", "pipe", "closed"])
def test_a_unet_model_that_cannot_be_written_is_said_before_training(
    run_train, tmp_path, kind, monkeypatch
):
    draw_squares(tmp_path / "own", 4)
    monkeypatch.setattr(train.Training, "take_step", None)
    model, sentence = tmp_path / "unet_model.pth", "unet_model.pth is no file"
    if kind == "folder":
        model.mkdir()
    elif kind == "link":
        model.symlink_to("nothing")
    elif kind == "pipe":
        os.mkfifo(model)
    else:

        def closed(**_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(tempfile, "TemporaryFile", closed)
        sentence = "can't be written .Permission denied"
    with pytest.raises(InputError, match=sentence):
        run_train(dataset="own", run_dir="run")


def test_a_run_that_was_ended_before_its_first_save_begins_again_in_its_folder(
    run_train, tmp_path, monkeypatch
):
    draw_squares(tmp_path / "own", 4)
    with monkeypatch.context() as patch:
        patch.setattr(train.Training, "catch_up", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_train(dataset="own", run_dir="run")
    left = {path.name for path in (tmp_path / "run").iterdir()}
    assert left == {LOCK, "learning_rate.png"}
    for name in (".last.pth.77.tmp", ".learning_rate.png.78.tmp"):
        (tmp_path / "run" / name).write_bytes(b"torn")
    run_train(dataset="own", run_dir="run")
    assert not list((tmp_path / "run").glob(".*"))
    assert load_checkpoint(tmp_path / "run" / "last.pth")["step"] == 4


def test_only_what_is_a_runs_own_is_swept_when_it_goes_on(run_train, tmp_path):
    draw_squares(tmp_path / "own", 4)
    run_train(dataset="own", run_dir="run")
    torn = [".last.pth.1.tmp", ".curves.png.22.tmp", ".report.html.23.tmp"]
    torn += ["predictions/.step_000004.png.3.tmp"]
    foreign = [".x.tmp", ".lock", ".best.pth.tmp", ".mine.pth.5.tmp", "predictions/.x.1.tmp"]
    foreign += ["notes.txt", ".step_000004.png.3.tmp", ".last.pth.1.tmp.old"]
    put(tmp_path / "run", [*torn, *foreign])
    before = snapshot(tmp_path / "run")
    run_train(dataset="own", run_dir="run", resume="run")
    after = snapshot(tmp_path / "run")
    assert {name: after.get(name) for name in foreign} == {name: before[name] for name in foreign}
    assert not set(torn) & set(after)


def test_of_unet_model_only_what_is_old_and_torn_is_swept(run_train, tmp_path):
    draw_squares(tmp_path / "own", 4)
    torn = [".unet_model.pth.4.tmp", ".unet_model-20300101-000000.pth.5.tmp"]
    foreign = [".unet_model.pth.tmp", ".unet_model-mine.pth.5.tmp", ".x.6.tmp", "unet_model-x.pth"]
    new = ".unet_model.pth.99.tmp"  # another run may be at it
    put(tmp_path, [*torn, *foreign, new])
    for name in (*torn, *foreign):
        os.utime(tmp_path / name, (1e9, 1e9))
    run_train(dataset="own", run_dir="run")
    left = set(snapshot(tmp_path))
    assert left >= {*foreign, new} and not left & set(torn)


def test_a_kept_model_never_takes_the_name_of_another(run_train, tmp_path):
    draw_squares(tmp_path / "own", 4)
    torch.save({"mine": 1}, tmp_path / "unet_model.pth")
    os.utime(tmp_path / "unet_model.pth", (1e9, 1e9))
    name = time.strftime("unet_model-%Y%m%d-%H%M%S", time.localtime(1e9))
    put(tmp_path, [f"{name}.pth"])
    mine = (tmp_path / "unet_model.pth").read_bytes()
    for number in range(2):
        shutil.copy(tmp_path / f"{name}.pth", tmp_path / "backup")
        run_train(dataset="own", run_dir=f"run{number}")
        (tmp_path / "unet_model.pth").write_bytes(mine)  # the same once more: it is kept already
        os.utime(tmp_path / "unet_model.pth", (1e9, 1e9))
    assert (tmp_path / f"{name}.pth").read_bytes() == f"somebody's own {name}.pth".encode()
    assert (tmp_path / f"{name}-2.pth").read_bytes() == mine
    assert len(list(tmp_path.glob("unet_model-*"))) == 2


def test_samples_are_never_drawn_over_somebodys_picture(tmp_path, monkeypatch, capsys):
    draw_squares(tmp_path / "own", 4)
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "TrainingOutput", ["samples-own.png"])
    os.mkfifo(tmp_path / "TrainingOutput" / "samples-own-2.png")
    before = snapshot(tmp_path / "TrainingOutput")
    given = dict(dataset="own", data_dir=".", image_size=(16, 16), cache=False)
    for _ in range(2):
        dataset.main({**read_constants(), **given})
        said = capsys.readouterr().out
        assert "samples-own.png is not from dataset.py, and stays as it is" in said
        assert "samples are in TrainingOutput/samples-own-3.png" in said
    after = snapshot(tmp_path / "TrainingOutput")
    assert set(after) == {*before, "samples-own-3.png"} and before.items() <= after.items()


def test_drawing_streets_sweeps_nothing_of_the_users(tmp_path, monkeypatch):
    monkeypatch.setattr(make_streets, "PICTURES", 2)
    old = [".unfinished-streets-abcdefgh", ".unfinished-mine", ".unfinished-abcdefgh"]
    for name in old:
        put(tmp_path / name, ["deep/work.txt"])
        os.utime(tmp_path / name, (1e9, 1e9))
    Streets(tmp_path / "streets", "streets").find_pairs()
    assert {path.name for path in tmp_path.iterdir()} == {"streets", *old[1:]}


def test_the_lock_stays_until_there_is_something_to_go_on_with(run_train, tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 4)
    seen = []
    real = train.Training.save

    def save(self):
        seen.append((tmp_path / "run" / LOCK).exists())
        real(self)

    monkeypatch.setattr(train.Training, "save", save)
    run_train(dataset="own", run_dir="run")
    assert seen and all(seen) and not (tmp_path / "run" / LOCK).exists()


def test_where_releasing_a_lock_takes_its_file_away_it_is_put_back(
    run_train, tmp_path, monkeypatch
):
    """As on Windows: without it the folder of a run that failed early would be nobody's."""
    draw_squares(tmp_path / "own", 4)
    real = files.lock_of

    def lock_of(path):
        lock = real(path)
        release = lock.release
        monkeypatch.setattr(lock, "release", lambda: (release(), path.unlink(missing_ok=True)))
        return lock

    monkeypatch.setattr(files, "lock_of", lock_of)
    with monkeypatch.context() as patch:
        patch.setattr(train.Training, "catch_up", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_train(dataset="own", run_dir="run")
    run_train(dataset="own", run_dir="run")
    assert not (tmp_path / "run" / LOCK).exists()


def test_a_run_dir_is_refused_before_anything_is_read(run_train, tmp_path, monkeypatch):
    put(tmp_path / "run", ["notes.txt"])
    monkeypatch.setattr(train, "prepare", None)
    with pytest.raises(InputError, match="run_dir run holds files that are of no run"):
        run_train(dataset="own", run_dir="run")


def test_two_new_runs_at_once_never_share_a_folder(run_train, tmp_path, monkeypatch):
    """The other one comes while this one waits for the lock."""
    draw_squares(tmp_path / "own", 4)
    real = runs.make_run

    def make(*given):
        made = real(*given)
        put(made, [LOCK, "last.pth", "curves.png"])
        return made

    monkeypatch.setattr(runs, "make_run", make)
    with pytest.raises(InputError, match="run holds a run already"):
        run_train(dataset="own", run_dir="run")
    assert (tmp_path / "run" / "curves.png").read_bytes() == b"somebody's own curves.png"
