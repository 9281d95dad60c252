import math

from toolbox import runs
from toolbox.best import since_rise
from toolbox.errors import InputError

import pytest
from conftest import draw_squares


def test_two_runs_in_one_second_get_folders_of_their_own(run_train, tmp_path, monkeypatch):
    class Stopped(runs.datetime):
        @classmethod
        def now(cls):
            return cls(2030, 1, 1)

    draw_squares(tmp_path / "own", 4)
    monkeypatch.setattr(runs, "datetime", Stopped)
    for _ in range(2):
        run_train(dataset="own", training_iterations=1)
    assert sorted(path.name for path in (tmp_path / "TrainingOutput").iterdir()) == [
        "own-20300101-000000",
        "own-20300101-000000-2",
    ]


def test_a_run_dir_that_holds_a_run_is_refused(run_train, tmp_path):
    draw_squares(tmp_path / "own", 4)
    run_train(dataset="own", run_dir="run")
    before = (tmp_path / "run" / "last.pth").read_bytes()
    with pytest.raises(InputError, match="run holds a run already; go on with it by resume=run"):
        run_train(dataset="own", run_dir="run")
    assert (tmp_path / "run" / "last.pth").read_bytes() == before


def test_the_best_row_is_the_last_of_the_highest_and_waiting_counts_from_the_first(make_training):
    training = make_training()
    for scores, best, waited in (
        ((0.1, 0.3, math.nan, 0.3), 3, 2),
        ((math.nan, math.nan, math.nan), 2, 0),
        ((0.0, 0.0), 1, 1),
        ((), None, 0),
    ):
        training.history = [{"val_mean_iou": score, "val_loss": 1.0} for score in scores]
        assert since_rise(training.history) == waited
        if scores:
            assert training.best_row() == best
