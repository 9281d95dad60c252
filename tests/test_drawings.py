"""Drawings: names are drawn as they are, and one that fails ends nothing."""

import csv
import json
import warnings

from toolbox import files, pictures, plots, reports
from toolbox.drawings import drawing, shown
from toolbox.errors import InputError

import numpy as np
import pytest
from conftest import draw_squares
from PIL import Image

import train

HOSTILE = (
    r"$\frac$",
    "$",
    "a_b^{c",
    r"\undefined{",
    "two\nlines\r\n and\ta tab",
    "x" * 5000,
    "道路 дорога ถนน",
    "שלט לרכב",
    "🚗👩‍👩‍👧",
    " ",
    "\x1b[31mred\x07\0",
    "\ud800",
    "%s {0} <b>&amp;",
)


def name_classes(folder, names) -> None:
    with open(folder / "classes.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["id", "name", "red", "green", "blue"])
        table.writerows([i, name, 80 * i, 0, 0] for i, name in enumerate(names))


PICTURES = ["curves", "learning_rate", "confusion", "classes", "worst", "learning"]


def test_a_class_called_frac_goes_from_its_table_to_the_report_and_all_pictures(
    run_train, tmp_path, capsys
):
    names = [r"$\frac$", r"\undefined{x_1", "two\nlines $"]
    name_classes(draw_squares(tmp_path / "own", 8), names)
    run_train(dataset="own", run_dir="run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert [entry["name"] for entry in report["test"]["classes"]] == names
    said = capsys.readouterr().out
    assert "could not be drawn" not in said and "  IoU two lines $" in said
    for name in [*PICTURES, "predictions/step_000002"]:
        with Image.open(tmp_path / "run" / f"{name}.png") as picture:
            picture.load()


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_any_name_is_drawn_in_every_kind_of_picture_without_a_warning(tmp_path, name):
    names, counts = [name, "road", name], np.eye(3)
    classes = [{"name": one, "iou": 0.5, "share": 0.3} for one in names]
    with warnings.catch_warnings(action="error"):
        plots.draw_classes(tmp_path / "classes.png", classes, "val")
        plots.draw_confusion(tmp_path / "confusion.png", reports.torch.tensor(counts), names, "val")
        strip = pictures.legend(names, [(0, 0, 0)] * 3, 300)
        head = pictures.headed(names, 300)
    assert strip.shape[1] == 300 and head.shape[1] == 900
    for kind in ("classes", "confusion"):
        with Image.open(tmp_path / f"{kind}.png") as picture:
            assert picture.width > 300


def test_long_names_leave_room_for_the_confusion_matrix(tmp_path, monkeypatch):
    boxes = []

    def measure(figure, *_, **__):
        figure.draw_without_rendering()
        boxes.append(figure.axes[0].get_window_extent())

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", measure)
    for name in ("x" * 5000, "x"):
        names = [name, "road", "sky"]
        plots.draw_confusion(tmp_path / "x.png", reports.torch.eye(3), names, "val")
    assert min(min(box.width, box.height) for box in boxes) > 100


def test_a_formula_is_drawn_letter_by_letter(tmp_path, monkeypatch):
    """Read as one, $x$ would be as narrow as x."""
    widths = []

    def measure(figure, *_, **__):
        figure.draw_without_rendering()
        label, *_ = figure.axes[0].get_yticklabels()
        widths.append(label.get_window_extent().width)

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", measure)
    for name in ("$x$", "x"):
        plots.draw_classes(tmp_path / "x.png", [{"name": name, "iou": 0.0, "share": 0.0}], "val")
    assert widths[0] > 2 * widths[1]


def test_a_name_is_one_short_line_that_commands_no_terminal():
    assert shown("a\nb\tc\x1b[31m") == "a b c [31m"
    assert shown("x" * 5000) == "x" * 39 + "…"
    assert shown("道路 👩‍👩‍👧 שלט") == "道路 👩‍👩‍👧 שלט"


@pytest.mark.parametrize("broken", ["figures", "sheets"])
def test_no_drawing_ends_a_run(run_train, tmp_path, monkeypatch, capsys, broken):
    draw_squares(tmp_path / "own", 8)

    def fail(*_, **__):
        raise ValueError("ParseFatalException: Expected \\frac{num}{den}\n^\nfound end of text")

    if broken == "figures":
        monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
        failing = ["curves", "learning_rate", "confusion", "classes"]
    else:
        monkeypatch.setattr(pictures, "sheet", fail)
        failing = ["worst", "learning", "predictions/step_000002", "predictions/step_000004"]
    run_train(dataset="own", run_dir="run")
    assert run_train.status == 0
    said = capsys.readouterr().out
    for name in failing:
        words = f"run/{name}.png could not be drawn (ParseFatalException: Expected \\frac{{num}}"
        assert words in said and not (tmp_path / "run" / f"{name}.png").exists()
    assert "found end of text" not in said
    for name in {*PICTURES} - {*failing}:
        assert (tmp_path / "run" / f"{name}.png").exists()
    ending = said[said.index("always the commonest class") :]
    assert "; the scores are in report.json" in ending
    assert (tmp_path / "run" / "report.json").exists() and (tmp_path / "unet_model.pth").exists()


def test_the_report_is_on_the_disk_before_anything_is_drawn_of_it(run_train, tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 8)

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    monkeypatch.setattr(reports, "draw_worst", kill)
    with pytest.raises(Killed):
        run_train(dataset="own", run_dir="run")
    assert "judged_on" in json.loads((tmp_path / "run" / "report.json").read_text())


REPORTS = ("report.json", "report.html")
FULL = OSError(28, "No space left on device")


def test_a_disk_that_is_full_for_a_drawing_only_costs_the_drawing(
    run_train, tmp_path, monkeypatch, capsys
):
    draw_squares(tmp_path / "own", 8)
    real = files.replace

    def full(aside, path):
        if path.suffix == ".png":
            raise FULL
        real(aside, path)

    monkeypatch.setattr(files, "replace", full)
    run_train(dataset="own", run_dir="run")
    said = capsys.readouterr().out
    assert run_train.status == 0
    assert "run/curves.png could not be drawn (No space left on device); the run goes on" in said
    left = {path.name for path in (tmp_path / "run").rglob("*")}
    assert left == {"best.pth", "last.pth", "history.csv", *REPORTS, "predictions"}


@pytest.mark.parametrize("name", ["best.pth", "last.pth", "history.csv", "report.json"])
def test_a_disk_that_is_full_for_what_counts_still_ends_the_run_in_a_sentence(
    run_train, tmp_path, monkeypatch, name
):
    draw_squares(tmp_path / "own", 8)
    real = files.replace

    def full(aside, path):
        if path.name == name:
            raise FULL
        real(aside, path)

    monkeypatch.setattr(files, "replace", full)
    with pytest.raises(InputError, match=f"run/{name} can't be written .No space left on device"):
        run_train(dataset="own", run_dir="run")


def test_what_a_drawing_raises_is_said_in_one_line_and_only_that(tmp_path, capsys):
    for error, words in (
        (ValueError("one\ntwo"), "one"),
        (MemoryError(), "MemoryError"),
        (KeyError(" "), "' '"),
        (RuntimeError("\n \n"), "RuntimeError"),
        (InputError("a sentence"), "a sentence"),
    ):
        with drawing(tmp_path / "x.png", "so"):
            raise error
        assert capsys.readouterr().out == f"{tmp_path / 'x.png'} could not be drawn ({words}); so\n"
    with pytest.raises(KeyboardInterrupt), drawing(tmp_path):
        raise KeyboardInterrupt


def test_curves_that_could_not_be_drawn_are_drawn_at_the_next_save(make_training, tmp_path):
    training = make_training()
    training.folder = tmp_path / "run"
    (training.folder / "curves.png").mkdir(parents=True)
    row = {"step": 1, "learning_rate": 0.1}
    for split in ("train", "val"):
        row |= {f"{split}_{kind}": 0.5 for kind in ("loss", "pixel_accuracy", "mean_iou")}
    training.history, training.rates = [row], [0.1]
    training.save()
    assert training.drawn == 0 and isinstance(training, train.Training)
    (training.folder / "curves.png").rmdir()
    training.save()
    assert training.drawn == 1 and (training.folder / "curves.png").is_file()
