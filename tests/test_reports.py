from toolbox.masks import IGNORE
from toolbox.reports import closing_table, report_of

import pytest
import torch

from utils import ConfusionMatrix


def test_scores_worked_by_hand_and_row_8_absent_classes_stay_outside_the_mean():
    """Truth 0 0 1 1, predicted 0 2 1 1: IoU 1/2 and 1; class 2 is predicted once but never true,
    class 3 neither."""
    matrix = ConfusionMatrix(4)
    matrix.update(torch.tensor([0, 2, 1, 1]), torch.tensor([0, 0, 1, 1]))
    report = report_of(matrix.scores(), ["a", "b", "c", "d"])
    assert [entry["iou"] for entry in report["classes"]] == [0.5, 1, None, None]
    assert report["classes"][0]["dice"] == pytest.approx(2 / 3)
    assert report["mean_iou"] == 0.75 and report["pixel_accuracy"] == 0.75
    assert report["baseline"] == {"class": "a", "pixel_accuracy": 0.5, "mean_iou": 0.25}
    lines = closing_table({"val": report}).splitlines()
    assert lines[4].split() == ["IoU", "a", "0.5000", "50.0%"]
    assert lines[7].split() == ["IoU", "d", "-", "0.0%"]
    ends = [lines[i].find(cell) + len(cell) for i, cell in ((1, ".7500"), (4, ".5000"), (7, " -"))]
    assert len(set(ends)) == 1


def test_row_7_the_report_shows_classes_beside_what_the_commonest_would_get():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.zeros(100, dtype=torch.int64), torch.arange(100) // 90)
    report = report_of(matrix.scores(), ["road", "pole"])
    assert report["pixel_accuracy"] == 0.9 == report["baseline"]["pixel_accuracy"]
    text = closing_table({"val": report})
    for words in ("IoU pole", "0.0000", "always the commonest class:", "10.0%"):
        assert words in text


def test_row_8_masks_without_any_class_give_dashes_not_numbers():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.zeros(4, dtype=torch.int64), torch.full((4,), IGNORE))
    report = report_of(matrix.scores(), ["a", "b"])
    assert report["mean_iou"] is None and report["pixel_accuracy"] is None
    assert "nan" not in closing_table({"val": report}).lower()


def test_a_split_without_any_class_reports_nothing_instead_of_nan():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.zeros(4, dtype=torch.int64), torch.full((4,), IGNORE))
    report = report_of(matrix.scores(), ["a", "b"])
    assert report["mean_iou"] is None and report["pixel_accuracy"] is None
