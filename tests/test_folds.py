"""Folds: every picture judged once by a net that has not seen it; stopped or killed anywhere, they
go on to the same end, to the bit; their nets are averaged."""

import csv
import json
import os
import shutil
import signal
from pathlib import Path

from toolbox import folding, plots, reports, runs
from toolbox.errors import InputError
from toolbox.prepared import overview
from toolbox.sources.base import Pair
from toolbox.splits import fold_splits

import judge
import numpy as np
import pytest
from conftest import draw_squares
from test_processes import SETTINGS, run
from test_resume import assert_same

import inference
import train
from dataset import prepare

FOLDS = dict(dataset="own", folds=3, dropout=0.2, training_iterations=6, save_model_interval=2)


def pairs_of(groups: list[str], split: str = "") -> list[Pair]:
    return [
        Pair(Path(f"{i}.png"), Path(f"{i}.png"), split, group) for i, group in enumerate(groups)
    ]


def check_splits(every: list[dict], pool: set[int], test: set[int]) -> None:
    """Each picture is judged once, and stands in one split of a fold."""
    judged = [row for splits in every for row in splits["fold"]]
    assert sorted(judged) == sorted(pool)
    for splits in every:
        rows = [row for name in ("train", "val", "fold") for row in splits[name]]
        assert sorted(rows) == sorted(pool) and set(splits.get("test", [])) == test


# ---- splits ----


@pytest.mark.parametrize("seed", range(5))
def test_each_picture_is_judged_once_and_folds_differ_by_one_at_most(seed):
    every = fold_splits(pairs_of([""] * 23), range(23), 5, seed)
    check_splits(every, set(range(23)), set())
    assert sorted(len(splits["fold"]) for splits in every) == [4, 4, 5, 5, 5]
    assert [len(splits["val"]) for splits in every] == [
        round(0.15 * (23 - len(splits["fold"]))) for splits in every
    ]
    assert every == fold_splits(pairs_of([""] * 23), range(23), 5, seed)
    assert every != fold_splits(pairs_of([""] * 23), range(23), 5, seed + 1)


def test_groups_stay_in_one_split_and_three_films_make_three_folds():
    films = ["a"] * 6 + ["b"] * 9 + ["c"] * 3
    every = fold_splits(pairs_of(films), range(18), 3, 0)
    check_splits(every, set(range(18)), set())
    assert {"".join({films[row] for row in splits["fold"]}) for splits in every} == {"a", "b", "c"}
    for splits in every:  # of two films left, val takes pictures
        assert len(splits["val"]) == round(0.15 * (18 - len(splits["fold"])))

    cars = [f"car {i // 4}" for i in range(48)]
    for splits in fold_splits(pairs_of(cars), range(48), 4, 0):
        of = [{cars[row] for row in splits[name]} for name in ("train", "val", "fold")]
        assert not of[0] & of[1] and not of[0] & of[2] and not of[1] & of[2]
        assert len(of[2]) == 3 and len(of[1]) == 1


def test_pictures_that_are_the_same_stay_in_one_fold():
    digests = [i // 2 for i in range(12)]
    for splits in fold_splits(pairs_of([""] * 12), digests, 3, 0):
        for rows in splits.values():
            assert sorted(digests[row] for row in rows) == sorted(
                2 * sorted({digests[row] for row in rows})
            )


def test_the_owner_s_test_is_in_no_fold_and_train_and_val_are():
    pairs = pairs_of([""] * 6, "train") + pairs_of([""] * 3, "val") + pairs_of([""] * 4, "test")
    every = fold_splits(pairs, range(13), 3, 0)
    check_splits(every, set(range(9)), {9, 10, 11, 12})
    assert list(every[0]) == ["train", "val", "test", "fold"]  # the last is what judges


def test_too_few_pictures_or_groups_are_refused():
    for groups, folds, found in (
        ([""] * 4, 5, "there are 4 pictures"),
        (["a", "a", "b", "b"], 3, "there are 2 groups of pictures"),
        ([""] * 3, 2, "there are 3 pictures"),
    ):
        with pytest.raises(InputError, match=f"folds is {folds}, and {found} to share out"):
            fold_splits(pairs_of(groups), range(len(groups)), folds, 0)
    assert len(fold_splits(pairs_of([""] * 3), range(3), 3, 0)) == 3
    with pytest.raises(InputError, match="folds is 1; expected a whole number from 0 to 100 but 1"):
        train.settings.check({"folds": 1})


# ---- runs ----


def table_of(folder: Path) -> list[dict]:
    with open(folder / "folds.csv", newline="") as file:
        return list(csv.DictReader(file))


def report_of(folder: Path) -> dict:
    report = json.loads((folder / "report.json").read_text())
    del report["seconds"], report["images_per_second"]
    return report


def assert_same_folds(folder: Path, other: Path) -> None:
    for number in (1, 2, 3):
        assert_same(folder / f"fold-{number}", other / f"fold-{number}")
    assert table_of(folder) == table_of(other)
    assert report_of(folder) == report_of(other)


@pytest.fixture(autouse=True)
def no_drawing(monkeypatch):
    """It takes most of the time, and other tests look at it."""
    for module, name in (
        (plots, "draw_curves"),
        (plots, "draw_learning_rate"),
        (reports, "draw_all"),
    ):
        monkeypatch.setattr(module, name, lambda *_: None)


@pytest.fixture
def own(tmp_path) -> Path:
    return draw_squares(tmp_path / "own", 11)


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Path:
    """Where the first test that wants it leaves the folder of a run that was never stopped."""
    return tmp_path_factory.mktemp("kept") / "straight"


@pytest.fixture
def straight(kept, run_train, own, tmp_path) -> Path:
    """The folder of a run that was never stopped."""
    if not kept.exists():
        run_train(**FOLDS, run_dir="straight")
        shutil.copytree("straight", kept)
    else:
        shutil.copytree(kept, "straight")
    return tmp_path / "straight"


def test_three_folds_leave_three_runs_and_what_they_say_together(run_train, own, capsys):
    straight = run_train(**FOLDS, run_dir="straight") / "straight"
    report, table = report_of(straight), table_of(straight)
    assert sorted(row["picture"] for row in table) == sorted(f"images/p{i}.png" for i in range(11))
    whole = report["folds"]
    assert whole["pictures"] == 11 and report["judged_on"] == "folds"
    assert len(whole["mean_iou_interval"]) == 2
    hits = np.zeros(3)
    unions = np.zeros(3)
    for number in (1, 2, 3):
        folder = straight / f"fold-{number}"
        of_fold = json.loads((folder / "report.json").read_text())
        rows = [row for row in table if row["fold"] == str(number)]
        assert of_fold["judged_on"] == "fold" and of_fold["fold"]["pictures"] == len(rows)
        entry = report["each_fold"][number - 1]
        assert entry == {
            "number": number,
            "pictures": len(rows),
            "fold": of_fold["fold"]["mean_iou"],
        }
        judged = json.loads((folder / "judged.json").read_text())
        for picture in judged["pictures"]:
            right = np.array(picture["hits"])
            hits += right
            unions += np.array(picture["true"]) + picture["predicted"] - right
    assert [entry["iou"] for entry in whole["classes"]] == pytest.approx(list(hits / unions))
    assert not (straight / ".unet-run.lock").exists()
    out = capsys.readouterr().out
    assert "splits: folds 11\n" in out
    assert "mean IoU of the 3 nets, each on its own pictures: " in out
    assert out.rstrip().endswith("python inference.py checkpoint=straight")


def kill_in(monkeypatch, place: str, number: int) -> None:
    """As if the process were killed the number-th time that it comes to a place."""
    owner, name = {
        "beginning": (train, "Training"),
        "judging": (train, "finish"),
        "keeping": (reports, "save_judged"),
    }[place]
    real, calls = getattr(owner, name), []

    def counted(*arguments):
        calls.append(1)
        if len(calls) == number:
            raise ZeroDivisionError
        return real(*arguments)

    monkeypatch.setattr(owner, name, counted)


@pytest.mark.parametrize("stop", [2, 13])
def test_row_14_stopped_in_any_fold_and_taken_up_they_end_the_same(
    run_train, straight, tmp_path, monkeypatch, stop
):
    take, steps = train.Training.take_step, []

    def take_and_signal(training, batches):
        steps.append(training.step)
        if len(steps) == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(training, batches)

    monkeypatch.setattr(train.Training, "take_step", take_and_signal)
    run_train(**FOLDS, run_dir="stopped")
    assert run_train.status == 143 and len(steps) == stop
    done = [number for number in (1, 2, 3) if 6 * number < stop]
    kept = {number: (tmp_path / f"stopped/fold-{number}/best.pth").stat() for number in done}
    run_train(**FOLDS, resume="stopped")
    assert run_train.status == 0 and len(steps) == 18  # no step was taken twice
    for number, before in kept.items():
        after = (tmp_path / f"stopped/fold-{number}/best.pth").stat()
        assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)
    assert_same_folds(straight, tmp_path / "stopped")


@pytest.mark.parametrize(
    "place, number",
    [("beginning", 2), ("judging", 2), ("keeping", 3)],
)
def test_killed_between_folds_they_go_on(run_train, straight, tmp_path, monkeypatch, place, number):
    with monkeypatch.context() as patched:
        kill_in(patched, place, number)
        with pytest.raises(ZeroDivisionError):
            run_train(**FOLDS, run_dir="killed")
    run_train(**FOLDS, resume="killed/fold-1")
    assert_same_folds(straight, tmp_path / "killed")


def test_killed_before_the_first_save_the_folder_is_still_the_run_s(
    run_train, straight, tmp_path, monkeypatch
):
    with monkeypatch.context() as patched:
        patched.setattr(train, "learn", lambda training: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_train(**FOLDS, run_dir="early")
    (tmp_path / "early" / "fold-1" / "learning_rate.png").touch()  # as it is drawn at the start
    (tmp_path / "early" / "fold-1" / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match="early holds files that are of no run"):
        run_train(**FOLDS, run_dir="early")
    (tmp_path / "early" / "fold-1" / "diary.txt").unlink()
    run_train(**FOLDS, run_dir="early")
    assert_same_folds(straight, tmp_path / "early")


def test_what_would_make_it_another_run_is_refused(run_train, straight, tmp_path):
    own_run = straight.parent
    for changed, said in (
        (dict(resume="straight", folds=0), "folds is 0 and was 3"),
        (dict(resume="straight", folds=4), "folds is 4 and was 3"),
        (dict(resume="straight", seed=1), "seed is 1 and was 0"),
        (dict(run_dir="straight"), "straight holds a run already"),
        (dict(run_dir="straight", folds=0), "straight holds a run already"),
    ):
        with pytest.raises(InputError, match=said):
            run_train(**{**FOLDS, **changed})
    run_train(**{**FOLDS, "folds": 0}, run_dir="plain")
    with pytest.raises(InputError, match="folds is 3 and was 0"):
        run_train(**FOLDS, resume="plain")
    shutil.copytree(straight / "fold-2", own_run / "elsewhere" / "fold-2")
    with pytest.raises(InputError, match="is a fold of a run, and elsewhere has no folds.csv"):
        run_train(**FOLDS, resume="elsewhere/fold-2")
    assert [path.name for path in (own_run / "elsewhere").iterdir()] == ["fold-2"]
    (straight / "fold-2" / "judged.json").write_text('{"counts": [')
    with pytest.raises(InputError, match="judged.json is damaged .*; take it away and go on"):
        run_train(**FOLDS, resume="straight")
    (straight / "fold-2" / "best.pth").unlink()
    (straight / "fold-2" / "judged.json").unlink()
    with pytest.raises(InputError, match="fold-2/best.pth is gone"):
        run_train(**FOLDS, resume="straight")


def test_a_longer_training_goes_on_with_every_fold(run_train, straight, tmp_path):
    run_train(**{**FOLDS, "training_iterations": 8}, resume="straight")
    run_train(**{**FOLDS, "training_iterations": 8}, run_dir="long")
    assert_same_folds(straight, tmp_path / "long")


def test_all_pictures_of_folds_were_seen_by_some_net_so_that_judge_has_none(straight, monkeypatch):
    monkeypatch.setattr(judge, "checkpoint", "straight")
    for name in ("checkpoint", "tta", "tile"):  # judge sets them
        monkeypatch.setattr(inference, name, getattr(inference, name))
    with pytest.raises(InputError, match="straight is of a run with folds, whose nets have seen"):
        judge.main()


def test_the_owner_s_test_judges_each_fold_too_and_the_newest_weights_are_a_run_s(
    run_train, tmp_path, capsys, monkeypatch
):
    folder = draw_squares(tmp_path / "own", 12)
    for name in ("images", "masks"):
        for split, numbers in (("train", range(8)), ("test", range(8, 12))):
            (folder / name / split).mkdir()
            for i in numbers:
                (folder / name / f"p{i}.png").rename(folder / name / split / f"p{i}.png")
    run_train(**FOLDS)
    (parent,) = (tmp_path / "TrainingOutput").iterdir()
    report = report_of(parent)
    assert report["folds"]["pictures"] == 8 and all("test" in one for one in report["each_fold"])
    assert "on the owner's test: " in capsys.readouterr().out
    monkeypatch.setattr(judge, "checkpoint", str(parent))
    for name in ("checkpoint", "tta", "tile"):  # judge sets them
        monkeypatch.setattr(inference, name, getattr(inference, name))
    judge.main()
    table = capsys.readouterr().out
    assert (
        "the mean of 3 nets" in table and table.split()[table.split().index("share") - 1] == "test"
    )
    run_train(dataset="own", folds=0)  # the weights of the last fold are in its folder
    assert not list(tmp_path.glob("unet_model-*.pth")) and runs.PUBLISHED.exists()


@pytest.mark.skipif(os.name != "posix", reason="torchrun's processes are those of Unix")
def test_two_processes_share_each_fold(own, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arguments = [f"{name}={value}" for name, value in {**SETTINGS, **FOLDS, "folds": 2}.items()]
    status, out, errors = run(2, train.__file__, *arguments, "run_dir=run")
    assert status == 0, errors
    assert len(table_of(tmp_path / "run")) == 11 and out.count("fold 2 of 2") == 1


def test_notes_of_a_fold_are_of_its_own_splits(own):
    data = prepare(str(own), "", (16, 16), seed=0, folds=3)
    assert not data.notes and list(data.splits) == ["folds"]
    assert "splits: folds 11\n" in overview(data)
    data.pixels[:, 2] = 0
    data.pixels[3, 2] = 5
    folds = folding.folds_of(data, {"folds": 3, "seed": 0})
    unlearnt = [[note for note in fold.notes if "unlearnt" in note] for fold in folds]
    lacking = [3 not in fold.splits["train"] for fold in folds]
    assert any(lacking) and [bool(notes) for notes in unlearnt] == lacking


def test_copies_of_a_picture_stay_in_one_fold_and_are_refused_only_in_the_owner_s_test(tmp_path):
    folder = draw_squares(tmp_path / "own", 12)
    for i in range(1, 6):
        shutil.copy(folder / "images" / "p0.png", folder / "images" / f"p{i}.png")
    with pytest.raises(InputError, match="is the same picture as"):
        prepare(str(folder), "", (16, 16))
    data = prepare(str(folder), "", (16, 16), folds=3)
    same = {f"p{i}.png" for i in range(6)}
    for fold in folding.folds_of(data, {"folds": 3, "seed": 0}):
        assert len(same & set(data.files(fold.splits["fold"]))) in (0, 6)
    assert not any("same picture" in note for note in fold.notes)
    data.pairs = [pair._replace(group=f"film{i % 3}") for i, pair in enumerate(data.pairs)]
    for fold in folding.folds_of(data, {"folds": 3, "seed": 0}):  # groups stay whole: it is told
        assert any("is the same picture as" in note for note in fold.notes)
    for name in ("images", "masks"):
        for split, numbers in (("train", range(1, 12)), ("test", [0])):
            (folder / name / split).mkdir()
            for i in numbers:
                (folder / name / f"p{i}.png").rename(folder / name / split / f"p{i}.png")
    with pytest.raises(InputError, match="p0.png in test is the same picture as"):
        prepare(str(folder), "", (16, 16), folds=3)
