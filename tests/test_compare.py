"""The scripts for running by hand: comparing settings, judging, uncertainty against error."""

import json

from toolbox import settings
from toolbox.errors import InputError

import compare
import judge
import numpy as np
import pytest
import uncertainty
from conftest import draw_squares

import inference
import train
from utils import load_checkpoint


def test_a_comparison_goes_on_where_it_stopped_and_prints_its_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    calls = []

    def fake_train(arguments, steps, seed):
        calls.append((tuple(arguments), steps, seed))
        iou = 0.5 + 0.1 * seed + (0.05 if arguments else 0)
        return {
            "seconds": 10.0,
            "parameters": 7,
            "judged_on": "test",
            "test": {
                "mean_iou": iou,
                "classes": [{"name": "pole", "iou": iou / 2}, {"name": "absent", "iou": None}],
            },
        }

    monkeypatch.setattr(compare, "train", fake_train)

    def fake_seconds(chosen):
        return {name: 0.1 if arguments else 0.05 for name, arguments in chosen.items()}

    monkeypatch.setattr(compare, "seconds_per_step", fake_seconds)
    two = {"A": [], "B": ["loss=ce"], "C": ["loss=ce"]}
    monkeypatch.setattr(compare, "COMPARISONS", {"two": two})
    monkeypatch.setattr(compare, "STEPS_OF", {"C": "A"})
    monkeypatch.setattr(compare, "comparison", "two")
    monkeypatch.setattr(compare, "budget", 10.0)
    monkeypatch.setattr(compare, "seeds", 1)
    compare.main()
    # Twice as fast, twice as many steps.
    assert [(steps, seed) for _, steps, seed in calls] == [(200, 0), (100, 0), (200, 0)]
    monkeypatch.setattr(compare, "seeds", 2)
    compare.main()
    assert [(steps, seed) for _, steps, seed in calls[3:]] == [(200, 1), (100, 1), (200, 1)]
    compare.main()
    assert len(calls) == 6
    table = capsys.readouterr().out.splitlines()[-5:]
    assert table[2] == "| A | 7 | 200 | 10 | 0.550 ± 0.071 | +0.000 ± 0.000 | 0.275 ± 0.035 | - |"
    assert table[3].startswith("| B | 7 | 100 | 10 | 0.600 ± 0.071 | +0.050 ± 0.000")


def test_an_unknown_comparison_is_named(monkeypatch):
    monkeypatch.setattr(compare, "comparison", "colours")
    with pytest.raises(InputError, match="'colours'; expected one of losses"):
        compare.main()


def test_a_comparison_runs_train_in_a_folder_of_its_own(project, tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 6)
    monkeypatch.setattr(compare, "ROOT", project)
    monkeypatch.setattr(compare, "data_dir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    arguments = ["dataset=own", "image_size=16", "features=4,8", "batch_size=2", "warmup_steps=1"]
    before = settings.settings_of(vars(train))
    report = compare.train(arguments, 3, 0)
    assert report["test"]["mean_iou"] >= 0 and not (tmp_path / "unet_model.pth").exists()
    folded = compare.train([*arguments, "folds=3"], 3, 0)
    scores = [entry["fold"] for entry in folded["each_fold"]]
    assert compare.score_of(folded) == pytest.approx(sum(scores) / 3) and len(scores) == 3
    assert compare.score_of(report) == report["test"]["mean_iou"]
    large = [*arguments, "image_size=96", "features=16,32"]
    paces = compare.seconds_per_step({"large": large, "small": arguments})
    assert 0 < paces["small"] < paces["large"] < 5
    assert settings.settings_of(vars(train)) == before


@pytest.mark.parametrize("name", compare.COMPARISONS)
def test_every_setting_of_a_comparison_is_one_that_train_takes_and_no_two_are_the_same(name):
    compared = compare.COMPARISONS[name]
    different = set()
    for setting, arguments in compared.items():
        compare.constants_of(arguments)
        assert compare.STEPS_OF.get(setting, setting) in compared
        different.add((*arguments, compare.STEPS_OF.get(setting)))
    assert len(different) == len(compared)


def test_error_among_the_kept_pixels_worked_by_hand():
    wrong, unsure = np.array([True, False, False, True]), np.array([0.9, 0.1, 0.2, 0.3])
    found = uncertainty.error_of_kept(wrong, unsure, np.array([0.25, 0.5, 0.75, 1]))
    assert found.tolist() == [0, 0, 1 / 3, 0.5]


def test_an_uncertain_pixel_is_wrong_more_often_than_a_certain_one(
    run_train, tmp_path, monkeypatch
):
    draw_squares(tmp_path / "own", 24, size=(32, 32))
    run_train(
        dataset="own",
        run_dir="run",
        image_size=(32, 32),
        features=(8, 16),
        training_iterations=60,
        eval_interval=60,
        dropout=0.2,
        base_lr=1e-2,
        batch_size=4,
        lr_schedule="cosine",
    )
    monkeypatch.setattr(uncertainty, "checkpoint", "unet_model.pth")
    monkeypatch.setattr(uncertainty, "passes", 8)
    for name in ("checkpoint", "uncertainty_passes"):  # the script sets them; put back afterwards
        monkeypatch.setattr(inference, name, getattr(inference, name))
    saved = load_checkpoint(tmp_path / "unet_model.pth")
    wrong, (total, epistemic), split = uncertainty.collect(saved)
    assert split == "test" and len(wrong) == len(total) == 4 * 32 * 32 and wrong.any()
    half, whole = uncertainty.error_of_kept(wrong, total, np.array([0.5, 1]))
    assert half < 0.2 * whole
    half, whole = uncertainty.error_of_kept(wrong, epistemic, np.array([0.5, 1]))
    assert half < whole
    uncertainty.main()
    assert (tmp_path / "TrainingOutput" / "uncertainty.png").exists()


def test_judge_finds_the_scores_that_training_reported_and_others_with_tta(
    run_train, tmp_path, monkeypatch, capsys
):
    draw_squares(tmp_path / "own", 12, size=(32, 32))
    run_train(dataset="own", run_dir="run", training_iterations=20, eval_interval=20)
    for name in ("checkpoint", "tta", "tile"):  # the script sets them; put back afterwards
        monkeypatch.setattr(inference, name, getattr(inference, name))
    monkeypatch.setattr(
        inference, "precision", train.precision
    )  # bf16 would turn what is near a tie
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    capsys.readouterr()

    def score(**chosen) -> float:
        for name, value in chosen.items():
            monkeypatch.setattr(judge, name, value)
        judge.main()
        return float(capsys.readouterr().out.split("mean IoU")[1].split()[0])

    assert score() == pytest.approx(report["test"]["mean_iou"], abs=1e-3)
    assert score(tta=True) > 0 and score(tta=False, tile=True) > 0
