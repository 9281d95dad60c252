"""What matplotlib draws: curves, the learning rate, classes, the confusion matrix."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from toolbox.drawings import shown
from toolbox.files import write_atomic

import numpy as np
import torch


@contextmanager
def new_figure(path: Path, width: float, height: float) -> Iterator:
    """A figure of so many inches that is path's file in the end."""
    import matplotlib  # slow to import; inference.py never needs it
    from matplotlib.figure import Figure

    # A class may be called $\frac$: that is its name and no formula. What matplotlib warns of, such
    # as letters that its font lacks, is no news to the user.
    as_it_is = {"text.parse_math": False, "text.usetex": False}
    with matplotlib.rc_context(as_it_is), warnings.catch_warnings(action="ignore"):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        write_atomic(path, lambda file: figure.savefig(file, format="png", dpi=100))


def draw_curves(path: Path, history: Sequence[dict], rates: Sequence[float], best: int) -> None:
    """Loss, pixel accuracy and mean IoU of training and validation, and the learning rate,
    against the step; best is the step that is kept."""
    steps = [row["step"] for row in history]
    score = history[steps.index(best)]["val_mean_iou"]
    with new_figure(path, 12, 7) as figure:
        *kinds, last = figure.subplots(2, 2, sharex=True).flat
        for axes, kind in zip(kinds, ("loss", "pixel_accuracy", "mean_iou")):
            for split, style, name in (
                ("train", "C0o-", "training"),
                ("val", "C1s-", "validation"),
            ):
                values = [row[f"{split}_{kind}"] for row in history]
                axes.plot(steps, values, style, markersize=4, label=name)
            axes.set(title=kind.replace("_", " ").replace("iou", "IoU"))
        last.plot(range(1, len(rates) + 1), rates, color="black")
        last.set(title="learning rate", ylim=(0, None))
        kept = f"kept: step {best}, validation mean IoU {score:.3f}"
        for axes in (*kinds, last):
            axes.axvline(best, color="grey", linestyle=":", label=kept)
            axes.set(xlabel="step")
            axes.tick_params(labelbottom=True)
            axes.grid(alpha=0.3)
        figure.legend(*kinds[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)


def draw_learning_rate(path: Path, rates: Sequence[float]) -> None:
    """The learning rate of every step, the first being step 1."""
    with new_figure(path, 6, 3.2) as figure:
        axes = figure.subplots()
        axes.plot(range(1, len(rates) + 1), rates)
        axes.set(xlabel="step", title="learning rate", ylim=(0, None))
        axes.grid(alpha=0.3)


def draw_bars(axes, names: list[str], values: list[float], texts: list[str], **look) -> None:
    """A bar for each name, its text at its end; names may be the same once they are cut."""
    places = range(len(names))
    axes.bar_label(axes.barh(places, values, **look), texts, padding=3)
    axes.set_yticks(places, names)
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)


def draw_classes(path: Path, classes: Sequence[dict], split: str) -> None:
    """Each class's IoU beside its share of the pixels, the weakest on top."""
    present = [entry for entry in classes if entry["iou"] is not None]
    ranked = sorted(present, key=lambda entry: -entry["iou"])
    names = [shown(entry["name"]) for entry in ranked]
    scores = [entry["iou"] for entry in ranked]
    shares = [entry["share"] * 100 for entry in ranked]
    with new_figure(path, 9, 1.2 + 0.28 * len(ranked)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        draw_bars(left, names, scores, [f"{score:.2f}" for score in scores], color="C0")
        draw_bars(right, names, shares, [f"{share:.1f}" for share in shares], color="grey")
        mean = sum(scores) / max(1, len(scores))
        title = f"IoU on {split}, mean {mean:.3f}"
        left.set(title=title, xlim=(0, 1.1), xticks=np.linspace(0, 1, 6))
        right.set(title=f"% of {split}'s pixels")


def draw_confusion(path: Path, counts: torch.Tensor, names: Sequence[str], split: str) -> None:
    """Each true class's pixels by the class they were taken for, in per cent of the row; a row
    without pixels is grey."""
    shares = (
        (counts / counts.sum(1, keepdim=True) * 100).cpu().numpy()
    )  # NaN in a row without pixels
    names = [shown(name) for name in names]
    longest = max(map(len, names))
    side = 3 + 0.42 * len(names) + 0.1 * max(0, longest - 12)
    with new_figure(path, side + 1, side) as figure:
        axes = figure.subplots()
        axes.set_facecolor("lightgrey")
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        title = f"{split}: % of each true class's pixels (empty: below 0.5)"
        axes.set(xlabel="predicted", ylabel="true", title=title)
        axes.set(xticks=range(len(names)), yticks=range(len(names)))
        axes.set_xticklabels(names, rotation=90, fontsize=11)
        axes.set_yticklabels(names, fontsize=11)
        axes.set_xticks(np.arange(len(names)) + 0.5, minor=True)
        axes.set_yticks(np.arange(len(names)) + 0.5, minor=True)
        axes.grid(which="minor", color="lightgrey", linewidth=0.5)
        axes.tick_params(which="minor", length=0)
        for (i, j), share in np.ndenumerate(shares):
            if share >= 0.5:
                color = "white" if share > 60 else "black"
                look = {"ha": "center", "va": "center", "fontsize": 10, "color": color}
                axes.text(j, i, f"{share:.0f}", **look)
