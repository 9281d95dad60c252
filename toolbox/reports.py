"""The end of a run: report.json, the closing table, and the pictures of the split that judges."""

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from toolbox import pictures, plots
from toolbox.drawings import drawing, shown
from toolbox.files import write_text
from toolbox.intervals import FEW, LEAST, add_sureness
from toolbox.judged import number, save_judged
from toolbox.keeping import Run
from toolbox.pages.run_page import write_run_page
from toolbox.pages.run_pictures import Titled
from toolbox.stages import count_parameters
from toolbox.values import Table

import torch

SHOWN = 4  # pictures that are shown of the worst, and of the best
SUMS = {"pixel_accuracy": "pixel accuracy", "mean_iou": "mean IoU", "mean_dice": "mean Dice"}


def report_of(scores: dict, names: Sequence[str]) -> dict:
    """A split's scores as report.json holds them, with the baseline: always the commonest class."""
    share = scores["share"]
    classes = []
    for i, name in enumerate(names):
        entry = {key: number(scores[key][i]) for key in ("share", "iou", "dice")}
        classes.append({"name": name, **entry})
    commonest = int(share.nan_to_num().argmax())
    present = max(1, int((share > 0).sum()))
    baseline = {
        "class": names[commonest],
        "pixel_accuracy": number(share[commonest]),
        "mean_iou": number(share[commonest] / present),
    }
    sums = {key: number(scores[key]) for key in SUMS}
    return {**sums, "classes": classes, "baseline": baseline}


def cell(value: float | str | None) -> str:
    if isinstance(value, str):
        return value
    return "-" if value is None else f"{value:.4f}"


def interval_cell(split: dict) -> str:
    if split["mean_iou_interval"] is None:
        return "too few"
    low, high = split["mean_iou_interval"]
    return f"{low:.3f}-{high:.3f}"


def class_cell(entry: dict) -> str:
    """A class's IoU, marked where few pictures have it."""
    mark = "*" if entry.get("few") and entry["iou"] is not None else ""
    return mark + cell(entry["iou"])


def remarks_on(splits: Sequence[dict]) -> list[str]:
    """What the table's marks mean, where there are any."""
    remarks = []
    entries = list(chain.from_iterable(split["classes"] for split in splits))
    if any(class_cell(entry)[0] == "*" for entry in entries):
        remarks.append(f"* fewer than {FEW} pictures of the split have it: it may be far off")
    if any(split.get("mean_iou_interval", ()) is None for split in splits):
        remarks.append(f"too few: an interval takes {LEAST} pictures, or groups of them, or more")
    return remarks


def closing_table(report: dict[str, dict]) -> str:
    """A column for each split, a row for each class with its share of the last split's pixels."""
    splits = list(report.values())
    rows = [("", [*report, "share"])]
    for key, title in SUMS.items():
        rows.append((title, [split[key] for split in splits]))
        if key == "mean_iou" and "mean_iou_interval" in splits[0]:
            rows.append(("  95 % interval", [interval_cell(split) for split in splits]))
    for classes in zip(*(split["classes"] for split in splits)):
        share = f"{classes[-1]['share'] or 0:.1%}"
        title = f"  IoU {shown(classes[0]['name'])}"
        rows.append((title, [*map(class_cell, classes), share]))
    commonest = [shown(split["baseline"]["class"]) for split in splits]
    rows.append(("always the commonest class:", commonest))
    for key in ("pixel_accuracy", "mean_iou"):
        rows.append((f"  {SUMS[key]}", [split["baseline"][key] for split in splits]))

    first = max(len(title) for title, _ in rows)
    every = chain.from_iterable(values for _, values in rows)
    other = 3 + max(len(cell(value)) for value in every)
    lines = []
    for title, values in rows:
        lines.append(f"{title:<{first}}" + "".join(f"{cell(value):>{other}}" for value in values))
    return "\n".join(lines + remarks_on(splits))


def weakest(iou: torch.Tensor, names: Sequence[str]) -> str:
    """The two classes of lowest IoU, of those that are there."""
    present = (~iou.isnan()).nonzero().flatten().tolist()
    ranked = sorted(present, key=lambda i: iou[i].item())
    return ", ".join(f"{shown(names[i])} {iou[i]:.2f}" for i in ranked[:2])


# ---- everything that is left at the end ----


class Result(NamedTuple):
    """A split with the best weights, each picture at its mask's own size."""

    counts: torch.Tensor  # the confusion matrix, (K, K)
    scores: dict  # of all of it
    pictures: list[tuple[int, dict]]  # each picture's place in the split, and its own scores

    def report(self, names: Sequence[str], groups: Sequence[str]) -> dict:
        """As report.json has it; groups are those of the split's pictures, in its order."""
        report = report_of(self.scores, names)
        judged = sorted(self.pictures, key=lambda one: one[0])  # by whichever process
        add_sureness(report, [scores for _, scores in judged], groups)
        return report

    def ranked(self) -> list[tuple[int, dict]]:
        """The pictures by their mean IoU, the lowest first."""
        scored = [one for one in self.pictures if not math.isnan(one[1]["mean_iou"])]
        return sorted(scored, key=lambda one: (one[1]["mean_iou"], one[0]))

    def worst(self) -> list[tuple[int, dict]]:
        return self.ranked()[:SHOWN]

    def best(self) -> list[tuple[int, dict]]:
        """The highest first; none that is among the worst too."""
        return self.ranked()[SHOWN:][: -SHOWN - 1 : -1]


def title_of(one: tuple[int, dict], files: Sequence[str], names: Sequence[str]) -> str:
    """How a picture went, in a line."""
    index, scores = one
    weak = weakest(scores["iou"], names)
    return f"{files[index]}: mean IoU {scores['mean_iou']:.2f}; weakest: {weak}"


def draw_worst(
    path: Path, result: Result, files: Sequence[str], show: Callable, table: Table
) -> None:
    """The pictures that went worst, with their weakest classes; show gives images, masks and
    preds."""
    worst = result.worst()
    if not worst:
        return
    titles = [title_of(one, files, table.names) for one in worst]
    predicted = show([index for index, _ in worst])
    sheet = pictures.prediction_sheet(*predicted, table.names, table.colors, titles)
    pictures.save_picture(path, sheet)


def draw_learning(path: Path, run: Run) -> None:
    """What was predicted of a few pictures along the way."""
    if run.seen:
        images, masks, _ = run.predict("val", run.watched())
        table = run.data.table
        sheet = pictures.learning_sheet(images, masks, run.seen, table.names, table.colors)
        pictures.save_picture(path, sheet)


def draw_all(run: Run, split: str, result: Result, classes: Sequence[dict]) -> None:
    """The pictures of the split that judges; one that can't be drawn takes none of the others
    along."""
    table, files = run.data.table, run.data.files(run.data.splits[split])
    show = partial(run.predict, split)
    drawn = {
        "worst.png": lambda path: draw_worst(path, result, files, show, table),
        "learning.png": lambda path: draw_learning(path, run),
        "classes.png": lambda path: plots.draw_classes(path, classes, split),
        "learning_rate.png": lambda path: plots.draw_learning_rate(path, run.rates),
        "confusion.png": lambda path: plots.draw_confusion(path, result.counts, table.names, split),
    }
    for name, draw in drawn.items():
        with drawing(run.folder / name, "the scores are in report.json") as path:
            draw(path)


def draw_page(run: Run, report: dict, result: Result) -> None:
    """All of the run on one page."""
    files = run.data.files(run.data.splits[report["judged_on"]])
    names = run.data.table.names
    groups = {}
    for heading, chosen in (("The worst", result.worst()), ("The best", result.best())):
        groups[heading] = [Titled(one[0], title_of(one, files, names)) for one in chosen]
    with drawing(run.folder / "report.html", "the scores are in report.json") as path:
        write_run_page(path, run, report, result.counts.cpu().numpy(), groups)


def close(run: Run, results: dict[str, Result]) -> None:
    """report.json, the closing table, and then the pictures of the last split, which judges."""
    last, names = list(results)[-1], run.data.table.names
    report = {}
    for name, found in results.items():
        groups = [run.data.pairs[row].group for row in run.data.splits[name]]
        report[name] = found.report(names, groups)
    facts = {
        "seconds": round(run.clock.seconds, 2),
        "images_per_second": round(run.speed(), 2),
        "parameters": count_parameters(run.model),
        "device": str(run.place.device),
        "precision": run.place.precision,
        "judged_on": last,
    }
    whole = {**report, **facts}
    write_text(run.folder / "report.json", json.dumps(whole, indent=1))
    print(closing_table(report))
    waited = run.clock.waited()
    cure = "; raise num_workers" if waited > 0.1 else ""
    speed = f"{run.speed():.1f} images/s in training"
    print(f"{speed}, of which {waited:.1%} was waiting for pictures{cure}")
    draw_all(run, last, results[last], report[last]["classes"])
    draw_page(run, whole, results[last])
    if run.constants["folds"]:
        save_judged(run.folder, run.constants, results[last])  # only now is the fold done
