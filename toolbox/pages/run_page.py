"""report.html: what a run was, how well it went and where not, what to try, and how to repeat it,
on one page."""

import shlex
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from toolbox import processes
from toolbox.constants import TRAIN, read_constants
from toolbox.helping import remarks_of
from toolbox.intervals import LEAST
from toolbox.keeping import Run
from toolbox.pages.advising import what_to_try
from toolbox.pages.curves import curve, line_keys
from toolbox.pages.markup import (
    Html,
    called,
    element,
    in_digits,
    page,
    percent,
    put_page,
    section,
    table,
)
from toolbox.pages.run_pictures import Titled, judged_pictures
from toolbox.pages.run_tables import classes_table, confusion, data_at_a_glance, interval
from toolbox.pages.verdict import Outcome, should_it_go_on, what_is_weak
from toolbox.runs import depends_on_length

import numpy as np
import torch

MAKER = "train.py"
NETS = {"unet": "U-Net", "unet++": "UNet++"}
SMALL = 12  # classes whose two tables stand beside each other
WHERE = {"run_dir", "resume"}  # where a run lies; no part of what it is


# ---- the top ----


def duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def in_one_line(run: Run, report: dict) -> str:
    constants = run.constants
    net = NETS.get(constants["architecture"], constants["architecture"])
    height, width = run.data.image_size
    several = f" in {processes.processes()} processes" if processes.processes() > 1 else ""
    return (
        f"{net} of {report['parameters']:,} parameters on {called(run.data.name)}, {run.step:,} "
        f"steps at {width}×{height} on {report['device']} in {report['precision']}{several}, "
        f"{duration(report['seconds'])}, ended {datetime.now():%Y-%m-%d %H:%M}"
    )


def top(run: Run, report: dict) -> Html:
    """The score of the split that judges, with what it is worth."""
    split = report["judged_on"]
    scores = report[split]
    count = len(run.data.splits[split])
    sure = interval(scores, "mean_iou_interval")
    said = f"no 95 % interval, which takes {LEAST} pictures, or groups of them, or more"
    if sure:
        said = f"95 % interval {sure} for other such pictures; another seed adds to it"
    baseline = scores["baseline"]
    compared = (
        f"always answering {called(baseline['class'])} would score "
        f"{in_digits(baseline['mean_iou'])}"
    )
    others = []
    for name in run.data.splits:
        if name != split:
            others.append(f"{name} {in_digits(report[name]['mean_iou'])}")
    accuracy = scores["pixel_accuracy"]
    lines = [
        f"mean IoU on {count:,} {split} picture{'' if count == 1 else 's'}; {compared}.",
        f"{percent(accuracy)} of the pixels are right, where large classes count most; mean Dice "
        f"{in_digits(scores['mean_dice'])}.",
        f"Mean IoU of the other splits: {', '.join(others)}." if others else "",
    ]
    if split == "val":
        lines.append(
            f"There is no test split: the weights were chosen by these {split} pictures, which "
            "flatters the score a little."
        )
    between = element("span", said, class_="interval")
    number = element("p", element("b", in_digits(scores["mean_iou"])), between, class_="score")
    name = element("h1", f"{called(run.data.name)}: how the run went")
    under = [element("p", line) for line in lines if line]
    return element("header", name, element("p", in_one_line(run, report)), number, under)


def in_words(found: Outcome) -> list[Html]:
    tries = [element("li", f"{one[0].upper()}{one[1:]}.") for one in what_to_try(found)]
    return [
        element("h3", "What is weak"),
        element("p", what_is_weak(found)),
        element("h3", "Should training have gone on?"),
        element("p", should_it_go_on(found)),
        element("h3", "What to try"),
        element("ul", tries),
    ]


def curves(run: Run, best: int) -> list[Html]:
    if not run.history:
        return [element("p", "There was no evaluation; lower eval_interval to see curves.")]
    drawn = [
        curve(run.history, "loss", "Loss", best),
        curve(run.history, "mean_iou", "Mean IoU", best),
    ]
    keys = ("train_loss", "val_loss", "train_mean_iou", "val_mean_iou")
    rows = []
    for row in run.history:
        rows.append([f"{row['step']:,}", *(f"{row[key]:.3f}" for key in keys)])
    heads = ["step", *(key.replace("_", " ").replace("iou", "IoU") for key in keys)]
    figures = table("Every evaluation", heads, rows, class_="figures")
    folded = element("details", element("summary", "The figures"), figures)
    looked_at = run.constants["eval_iterations"]
    few = f"{looked_at:,} batches of pictures" if looked_at else "all pictures"
    words = (
        f"An evaluation looks at {few} at the size that the net sees, so it differs a little from "
        "the scores of this page: those are of all pictures at their own size, with the weights "
        "that were kept."
    )
    note = element("p", words, class_="note")
    return [line_keys(best), element("div", drawn, class_="curves"), note, folded]


# ---- how to repeat it ----


def in_python(value) -> str:
    if isinstance(value, list):
        value = tuple(value)
    return repr(value)


def settings_table(constants: dict) -> Html:
    """What differs from train.py as it stands, with what train.py says of it."""
    defaults, remarks = read_constants(), remarks_of(TRAIN)
    rows = []
    for name, value in constants.items():
        if name not in WHERE and value != defaults.get(name):
            default = in_python(defaults[name]) if name in defaults else "–"
            code = [element("code", text) for text in (name, in_python(value), default)]
            rows.append([*code, remarks.get(name, "")])
    if not rows:
        return element("p", "None: all constants were as they stand at the top of train.py.")
    heads = ["setting", "here", "in train.py", "what it is"]
    return table("Settings that differ from train.py", heads, rows, class_="settings")


def command(script: str, arguments: Sequence[str]) -> Html:
    words = shlex.join(arguments)
    return element("pre", element("code", f"{processes.starter()} {script} {words}".rstrip()))


def how_to(run: Run, given: Sequence[str]) -> list[Html]:
    """The commands that repeat the run, lengthen it and use it; given is the command line."""
    kept = [word for word in given if word.lstrip("-").partition("=")[0] not in WHERE]
    where, steps = run.folder.as_posix(), run.constants["training_iterations"]
    longer = [*kept, f"training_iterations={2 * steps}"]
    going_on = "To train twice as long (a new run, as the learning rate falls over all of it):"
    if not depends_on_length(run.constants):
        longer.append(f"resume={where}")
        going_on = "To go on with it, to twice the steps:"
    lines = []
    for name, value in run.constants.items():
        if name not in WHERE:
            lines.append(f"{name} = {in_python(value)}")
    recipe = element("pre", element("code", "\n".join(lines)), tabindex="0")
    words = "All its constants, as a recipe: save them as again.py, then python train.py again.py"
    return [
        element(
            "p",
            "To repeat it, while train.py and the recipe stay as they are (the list at the end of "
            f"this page needs neither). It ran on {run.place} with PyTorch {torch.__version__}:",
        ),
        command("train.py", kept),
        element("p", going_on),
        command("train.py", longer),
        element("p", "To colour pictures with it:"),
        command("inference.py", [f"checkpoint={where}/best.pth"]),
        element("details", element("summary", words), recipe),
    ]


# ---- the page ----


def outcome_of(run: Run, report: dict, counts: np.ndarray) -> Outcome:
    split = report["judged_on"]
    pictures = len(run.data.splits[split])
    best = run.best_row() if run.history else 0
    names, learnt = run.data.table.names, run.data.counts("train")
    judged = (counts, report[split], split, pictures)
    return Outcome(run.constants, run.history, best, names, *judged, learnt, run.data.scale())


def run_page(
    run: Run, report: dict, counts: np.ndarray, groups: dict[str, Sequence[Titled]]
) -> str:
    """The whole page; report is report.json, counts the confusion matrix of the split that judges,
    groups its pictures to be shown by their headings."""
    split, class_table = report["judged_on"], run.data.table
    found = outcome_of(run, report, counts)
    best = run.history[found.best]["step"] if run.history else 0
    classes = classes_table(report[split], class_table.colors, counts, split)
    both = [
        section("classes", "Classes", classes),
        section(
            "confusion", "Confusion: what is taken for what", confusion(counts, class_table.names)
        ),
    ]
    parts = [
        top(run, report),
        section("words", "In words", in_words(found)),
        section("curves", "Curves", curves(run, best)),
        element("div", both, class_="pair") if len(class_table.names) <= SMALL else both,
        section("pictures", "Worst and best pictures", judged_pictures(run, split, groups)),
        section("data", "The data", data_at_a_glance(run.data)),
        section("settings", "Settings", settings_table(run.constants)),
        section("again", "To repeat it", how_to(run, sys.argv[1:])),
    ]
    title = f"{called(run.data.name)}: mean IoU {in_digits(report[split]['mean_iou'])}"
    return page(MAKER, title, "run.js", parts)


def write_run_page(
    path: Path, run: Run, report: dict, counts: np.ndarray, groups: dict[str, Sequence[Titled]]
) -> None:
    written = put_page(path, MAKER, run_page(run, report, counts, groups))
    print(f"all of it on one page: {written}")
