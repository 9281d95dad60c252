"""Is an uncertain pixel wrong more often than a certain one? The share of wrong pixels among those
that are kept, the most certain first.

    python train.py dropout=0.1 && python experiments/uncertainty.py

It judges the last split of the checkpoint's own data set, prints the curve and draws
TrainingOutput/uncertainty.png.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from toolbox.machine import Place
from toolbox.masks import IGNORE, read_image, resize_image
from toolbox.plots import new_figure
from toolbox.settings import run_script

from judge import data_of

import inference
from dataset import SegmentationDataset
from utils import load_checkpoint

checkpoint = "unet_model.pth"
passes = 20  # predictions of each picture


def collect(saved: dict) -> tuple[np.ndarray, np.ndarray, str]:
    """For every pixel with a class: whether it is wrong, and its total and epistemic uncertainty
    (2, N); and the split's name."""
    place = Place("auto", "auto")
    inference.checkpoint, inference.uncertainty_passes = checkpoint, passes
    model, data = inference.load_model(saved, place), data_of([saved])
    name = list(data.splits)[-1]
    split = SegmentationDataset(data, name)
    wrong, uncertain = [], []
    for i, row in enumerate(split.rows):
        mask = split.full_mask(i).numpy()
        small = resize_image(read_image(data.pairs[row].image), saved["image_size"])
        (found,) = inference.predict(model, [mask.shape], small[None], place)
        wrong.append((found.ids != mask)[mask != IGNORE])
        uncertain.append(found.uncertainty[:, mask != IGNORE])
    return np.concatenate(wrong), np.concatenate(uncertain, axis=1), name


def error_of_kept(wrong: np.ndarray, uncertainty: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The share of wrong pixels among each share of the most certain ones."""
    sorted_wrong = wrong[np.argsort(uncertainty, kind="stable")]
    kept = np.maximum(1, np.round(shares * len(wrong)).astype(int))
    return np.cumsum(sorted_wrong)[kept - 1] / kept


def main() -> None:
    wrong, uncertain, split = collect(load_checkpoint(Path(checkpoint)))
    shares = np.linspace(0.05, 1, 20)
    curves = {}
    for name, values in zip(("total", "epistemic"), uncertain):
        curves[name] = error_of_kept(wrong, values, shares)
    with new_figure(Path("TrainingOutput") / "uncertainty.png", 6, 3.6) as figure:
        axes = figure.subplots()
        for name, curve in curves.items():
            label = f"kept by {name} uncertainty"
            axes.plot(shares * 100, curve * 100, "o-", markersize=3, label=label)
        axes.set(
            xlabel="% of pixels kept, the most certain first",
            ylabel="% of them wrong",
            title=f"{split} split, {passes} passes",
            ylim=(0, None),
        )
        axes.grid(alpha=0.3)
        axes.legend()
    what = "share of pixels kept, and of them wrong by total and by epistemic uncertainty"
    print(f"{split} split, {passes} passes; {what}")
    for share, *errors in zip(shares, *curves.values()):
        print(f"{share:6.0%}" + "".join(f"{error:10.2%}" for error in errors))


if __name__ == "__main__":
    run_script(globals(), main)
