from toolbox import advice

import numpy as np
import pytest
from conftest import draw_squares, move_into_splits
from PIL import Image

import train
from model import build_model

WARNINGS = {
    "absent": "it can't be learnt",
    "floor": "the learning rate is at min_lr",
    "still": "the loss has not moved",
    "single": "nothing else is learnt yet",
    "gap": "learnt by heart",
}


def heard(out: str) -> set[str]:
    return {kind for kind, words in WARNINGS.items() if words in out}


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

    def only_advise(training):
        print(training.adviser.new_warnings(training.facts()))
        return 15

    monkeypatch.setattr(train, "learn", only_advise)
    system_a = dict(base_lr=1e-3, min_lr=1e-4, warmup_steps=100, decay_factor=5e8)
    run_train(dataset="own", run_dir="run", training_iterations=1250, **system_a)
    out = capsys.readouterr().out
    assert heard(out) == {"floor"} and "from step 505 of 1250 on; raise decay_factor" in out


@pytest.mark.parametrize("base_lr, is_warned", [(9e-5, True), (1e-4, False), (2e-4, False)])
def test_a_rate_below_the_least_is_warned_of(make_training, base_lr, is_warned):
    training = make_training(base_lr=base_lr, min_lr=1e-4)
    said = training.adviser.new_warnings(training.facts())
    expected = f"base_lr is {base_lr:g}, and the learning rate is never below min_lr, 0.0001: it is"
    assert any(expected in line for line in said) == is_warned


def test_a_warning_is_said_once(make_training):
    training = make_training(training_iterations=1)
    training.only_class, training.step = 1, 1
    (said,) = training.adviser.new_warnings(training.facts())
    assert said.startswith("warning: every pixel")
    assert training.adviser.new_warnings(training.facts()) == []


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
    assert "since step 70 at least" in advice.learnt_by_heart(training.facts())
    training.history[-1]["val_mean_iou"] = 0.75
    assert advice.learnt_by_heart(training.facts()) == ""
