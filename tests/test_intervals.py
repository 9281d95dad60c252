"""The interval of mean IoU: it holds the truth as often as it says, follows groups, and says so
where it can't be told."""

import time

from toolbox.intervals import FEW, LEAST, add_sureness, mean_iou_interval, scores_and_spreads
from toolbox.reports import closing_table, report_of

import intervals
import numpy as np
import pytest
import torch

from utils import ConfusionMatrix

RARE = "eight classes, down to one picture in ten"


def made_up(pictures: int, classes: int = 3, seed: int = 0) -> np.ndarray:
    """Counts (N, 3, K) in which the first class is everywhere, the others here and there."""
    rng = np.random.default_rng(seed)
    true = rng.integers(50, 500, (pictures, classes)) * (rng.random((pictures, classes)) < 0.6)
    true[:, 0] += 100
    hits = (true * rng.uniform(0.3, 1, true.shape)).astype(int)
    predicted = hits + rng.integers(0, 80, true.shape)
    return np.stack([hits, true, predicted], axis=1)


@pytest.mark.parametrize("pictures", [10, 20, 30, 75])
def test_of_two_hundred_splits_with_rare_classes_90_to_99_in_a_hundred_hold_the_truth(pictures):
    population = intervals.make_population(intervals.KINDS[RARE])
    found = intervals.measure(population, pictures, drawn=200, resamples=500)
    assert 0.9 <= found["holds"] <= 0.99 and 0.9 <= found["holds, classes there"] <= 0.99


def test_scores_are_the_confusion_matrix_s_and_spreads_what_each_picture_adds_in_a_slow_loop():
    counts = made_up(6).astype(float)
    weights = np.array([[1, 1, 1, 1, 1, 1], [0, 3, 0, 2, 1, 0], [6, 0, 0, 0, 0, 0]], float)
    scores, spreads = scores_and_spreads(weights, counts)
    for i, weight in enumerate(weights):

        def score_at(weight: np.ndarray) -> float:
            ious = []
            for hits, true, predicted in (weight[:, None, None] * counts).sum(axis=0).T:
                if true > 0:
                    ious.append(hits / (true + predicted - hits))
            return sum(ious) / len(ious)

        squares = 0
        for n in range(6):
            if weight[n]:  # the others add nothing to a sum that counts them zero times
                more, less = weight.copy(), weight.copy()
                more[n] += 1e-4
                less[n] -= 1e-4
                squares += weight[n] * ((score_at(more) - score_at(less)) / 2e-4) ** 2
        assert scores[i] == pytest.approx(score_at(weight), rel=1e-12)
        assert spreads[i] == pytest.approx(squares**0.5, abs=1e-6)


def test_pictures_of_a_group_are_drawn_together():
    single = made_up(12)
    twice, groups = np.repeat(single, 2, axis=0), [f"car {i // 2}" for i in range(24)]
    alone = mean_iou_interval(twice, [""] * 24)
    together = mean_iou_interval(twice, groups)
    assert together == pytest.approx(mean_iou_interval(single, [""] * 12), abs=1e-9)
    assert alone[1] - alone[0] < 0.85 * (together[1] - together[0])


def test_of_too_few_pictures_or_groups_there_is_no_interval():
    for count in range(1, LEAST):
        assert mean_iou_interval(made_up(count), [""] * count) is None
    assert mean_iou_interval(made_up(LEAST), [""] * LEAST) is not None
    assert mean_iou_interval(made_up(30), ["a", "b", "c"] * 10) is None
    assert mean_iou_interval(np.zeros((9, 3, 2)), [""] * 9) is None  # all of it ignored


def test_the_interval_holds_the_score_is_within_0_and_1_and_the_same_each_time():
    for seed in range(5):
        counts = made_up(5, seed=seed)
        low, high = mean_iou_interval(counts, [""] * 5)
        score = scores_and_spreads(np.ones((1, 5)), counts)[0][0]
        assert 0 <= low <= score <= high <= 1 and low < high
        assert [low, high] == mean_iou_interval(counts, [""] * 5)
    right = np.array([[[50, 50], [50, 50], [50, 50]]] * 8)
    assert mean_iou_interval(right, [""] * 8) == [1, 1]


def test_one_picture_that_outweighs_all_others_does_not_take_the_interval_apart():
    counts = made_up(40, classes=2)
    counts[0] *= 50
    counts[0, 0] //= 3  # and it is a bad one
    low, high = mean_iou_interval(counts, [""] * 40)
    weights = np.random.default_rng(0).multinomial(40, np.full(40, 1 / 40), size=2000)
    plain = np.quantile(scores_and_spreads(weights.astype(float), counts)[0], [0.025, 0.975])
    assert low < plain[0] and high - low < 2 * (plain[1] - plain[0])


def test_many_pictures_take_no_time_and_heaps_change_little():
    counts = made_up(5000, classes=34)
    began = time.process_time()
    heaped = mean_iou_interval(counts, [""] * 5000)
    assert time.process_time() - began < 15  # seconds, on a slow machine; a second or two elsewhere
    scores, _ = scores_and_spreads(np.ones((1, 5000)), counts)
    width = 2 * 1.96 * scores_and_spreads(np.ones((1, 5000)), counts)[1][0]
    assert heaped[1] - heaped[0] == pytest.approx(width, rel=0.15)
    assert heaped[0] < scores[0] < heaped[1]


def test_the_report_says_how_many_pictures_have_a_class_and_the_table_marks_those_of_few():
    pictures = []
    whole = ConfusionMatrix(4)
    for i in range(FEW + 2):
        masks = torch.zeros(8, 8, dtype=torch.int64)
        masks[0] = 1 if i < FEW else 0
        masks[1] = 2 if i < FEW - 1 else 0
        preds = masks.clone()
        preds[:, 0] = 0  # some are wrong
        alone = ConfusionMatrix(4)
        alone.update(preds, masks)
        whole.update(preds, masks)
        pictures.append(alone.scores())
    report = report_of(whole.scores(), ["ground", "line", "dot", "none"])
    before = {**report, "classes": [{**entry} for entry in report["classes"]]}
    add_sureness(report, pictures, [""] * len(pictures))
    assert [entry["pictures"] for entry in report["classes"]] == [FEW + 2, FEW, FEW - 1, 0]
    assert [entry["few"] for entry in report["classes"]] == [False, False, True, True]
    low, high = report["mean_iou_interval"]
    assert low <= report["mean_iou"] <= high and report["pictures"] == FEW + 2
    assert {name: report[name] for name in before if name != "classes"} == {
        name: before[name] for name in before if name != "classes"
    }
    lines = closing_table({"test": report}).splitlines()
    assert lines[3].split() == ["95", "%", "interval", f"{low:.3f}-{high:.3f}"]
    marks = {line.split()[1]: line.split()[2] for line in lines if line.startswith("  IoU")}
    assert [marks[name][0] for name in ("ground", "line", "dot", "none")] == ["0", "0", "*", "-"]
    assert lines[-1].startswith("* fewer than 10 pictures")

    add_sureness(report, pictures[:2], ["", ""])
    assert report["mean_iou_interval"] is None
    assert "too few: an interval takes 5 pictures" in closing_table({"test": report})
