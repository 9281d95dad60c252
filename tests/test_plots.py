import math

from toolbox import plots

import torch
from PIL import Image


def test_plots_are_drawn(tmp_path):
    row = {"step": 1, "learning_rate": 0.1}
    for split in ("train", "val"):
        row |= {f"{split}_{kind}": 0.5 for kind in ("loss", "pixel_accuracy", "mean_iou")}
    history = [row, {**row, "step": 2, "val_mean_iou": math.nan}]
    plots.draw_curves(tmp_path / "curves.png", history, [0.1, 0.2], 2)
    plots.draw_learning_rate(tmp_path / "rate.png", [0.1, 0.2])
    counts = torch.tensor([[3, 1], [0, 0]])
    plots.draw_confusion(tmp_path / "confusion.png", counts, ["a", "b"], "val")
    for name in ("curves", "rate", "confusion"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 300 and len(set(picture.convert("L").tobytes())) > 10
