"""report.html and index.html: whole, escaped, small, true to the figures, and asking nobody for
anything; and what a browser makes of them."""

import base64
import csv
import io
import json
import math
import os
import re
import shutil
import subprocess
from html import escape, unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

from toolbox import reports, runs
from toolbox.constants import TRAIN, read_constants
from toolbox.helping import remarks_of
from toolbox.pages import cards, inference_page, markup, run_page, run_pictures
from toolbox.pages.advising import what_to_try
from toolbox.pages.curves import curve, ticks
from toolbox.pages.markup import element, percent, put_page
from toolbox.pages.run_tables import confusion, sizes_of, unlike_splits
from toolbox.pages.shots import mask_uri, picture_uri
from toolbox.pages.verdict import Outcome, should_it_go_on, what_is_weak

import numpy as np
import pytest
import torch
from conftest import draw_squares, move_into_splits
from PIL import Image
from test_drawings import HOSTILE, name_classes
from test_inference import make_place

import inference
import train
from utils import ConfusionMatrix

EVIL = '<script>alert("x")</script>'
VOID = {"img", "input", "meta", "link", "br"}


class Walk(HTMLParser):
    """A page's elements, and what is wrong with it."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.flaws, self.elements, self.text = [], [], [], ""
        self.feed(text)
        self.close()
        self.flaws += [f"{name} is never closed" for name in self.open]

    def handle_starttag(self, name, pairs):
        self.elements.append((name, dict(pairs)))
        if len(dict(pairs)) < len(pairs):
            self.flaws.append(f"{name} has an attribute twice")
        if name not in VOID:
            self.open.append(name)

    def handle_endtag(self, name):
        if not self.open or self.open.pop() != name:
            self.flaws.append(f"</{name}> closes what is not open")

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, name: str) -> list[dict]:
        return [attributes for found, attributes in self.elements if found == name]


def flaws_of(text: str) -> list[str]:
    """What keeps a page from being whole, safe and readable."""
    walk = Walk(text)
    flaws = list(walk.flaws)
    ids = [attributes["id"] for _, attributes in walk.elements if "id" in attributes]
    flaws += [f"id {name} twice" for name in ids if ids.count(name) > 1]
    for name, attributes in walk.elements:
        for key in ("src", "href"):
            place = attributes.get(key, "")
            if re.match(r"[a-z]+:|//", place) and not place.startswith("data:"):
                flaws.append(f"{name} asks for {place}")
        if name == "img" and not attributes.get("alt"):
            flaws.append("a picture without words")
        if name == "script" and attributes:
            flaws.append("a script from elsewhere")
        if any(key.startswith("on") for key in attributes):
            flaws.append(f"{name} has a script in it")
        flaws += [
            f"no element has the id {attributes[key]}"
            for key in ("aria-labelledby", "aria-describedby", "for")
            if key in attributes and attributes[key] not in ids
        ]
        if name == "th" and "scope" not in attributes:
            flaws.append("a table's head without scope")
    if len(walk.all("script")) != 1 or len(walk.all("style")) != 1:
        flaws.append("not one script and one style")
    if re.search(r"url\(|@import|https?:", text):
        flaws.append("an address")
    return flaws


def words_of(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    assert flaws_of(text) == []
    return Walk(text).text


def test_the_walk_finds_what_is_wrong():
    good = markup.page("train.py", "t", "run.js", element("p", "x", id="a"))
    assert flaws_of(good) == []
    for bad, flaw in (
        ("<p>", "</main> closes what is not open"),
        ('<p id="a"></p>', "id a twice"),
        ('<img src="data:," alt="">', "a picture without words"),
        ('<img src="http://x/y.png" alt="y">', "img asks for http://x/y.png"),
        ('<a href="//x">x</a>', "a asks for //x"),
        ('<script src="x.js"></script>', "a script from elsewhere"),
        ('<b onclick="x()">x</b>', "b has a script in it"),
        ("<th>x</th>", "a table's head without scope"),
        ('<label for="nobody">x</label>', "no element has the id nobody"),
        ('<p style="background:url(x)">x</p>', "an address"),
    ):
        assert flaw in flaws_of(good.replace("</main>", f"{bad}</main>"))


# ---- elements and pictures ----


@pytest.mark.parametrize("name", [*HOSTILE, EVIL, "\"' onerror=x", "]]>&lt;"], ids=ascii)
def test_no_name_gets_out_of_its_element(name):
    drawn = element("p", name, title=name)
    walk = Walk(drawn)
    assert walk.flaws == [] and [found for found, _ in walk.elements] == ["p"]
    shown = name.encode(errors="backslashreplace").decode()
    assert walk.all("p")[0] == {"title": shown}
    assert walk.text == shown


def test_attributes_that_are_none_or_false_are_left_out():
    drawn = element("input", type="checkbox", checked=True, hidden=False, for_=None, data_a=1)
    assert drawn == '<input type="checkbox" checked data-a="1">'


def read_uri(uri: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as picture:
        return np.array(picture.convert("RGB"))


def test_a_picture_is_a_jpeg_or_a_png_whichever_is_smaller():
    noise = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    flat = np.full((40, 50, 3), 77, np.uint8)
    assert picture_uri(noise).startswith("data:image/jpeg;base64,")
    assert picture_uri(flat).startswith("data:image/png;base64,")
    assert (read_uri(picture_uri(flat)) == 77).all()


@pytest.mark.parametrize("count", [2, 3, 4, 9, 16, 34, 255])
def test_a_mask_shows_its_classes_colours_and_white_for_ignored(count):
    colors = [(i, 255 - i, i // 2) for i in range(count)]
    mask = np.arange(count, dtype=np.uint8)[None].repeat(2, axis=0)
    mask = np.concatenate([mask, np.full((2, 1), 255, np.uint8)], axis=1)
    shown = read_uri(mask_uri(mask, colors))
    assert shown[0].tolist() == [*map(list, colors), [255, 255, 255]]


# ---- the run's page ----


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def test_a_run_ends_with_one_page_that_has_its_figures(run_train, tmp_path, capsys):
    draw_squares(tmp_path / "own", 20, size=(20, 28))
    run_train(dataset="own", run_dir="run", image_size=(24, 24))
    assert "all of it on one page: run/report.html" in capsys.readouterr().out
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    words = words_of(tmp_path / "run" / "report.html")
    test = report["test"]
    for said in (
        f"{report['parameters']:,} parameters on own, 4 steps at 24×24 on cpu in fp32",
        f"mean IoU on 3 test pictures; always answering ground would score "
        f"{test['baseline']['mean_iou']:.3f}.",
        f"{test['mean_iou']:.3f}",
        "20 pictures with masks: train 14, val 3, test 3. Sizes on disk (width×height): 28×20 (20)",
        "What is weak",
        "python inference.py checkpoint=run/best.pth",
        "image_size(24, 24)(80, 128)(height, width) to resize to; twice the sides",
        "image_size = (24, 24)",
    ):
        assert said in words, said
    for entry in test["classes"]:
        assert f"{entry['name']}few{entry['iou']:.3f}{entry['dice']:.3f}" in words


def test_the_matrix_has_the_runs_counts_with_recall_and_precision():
    counts = np.array([[90, 10, 0], [5, 15, 0], [0, 0, 0]])
    words = Walk(confusion(counts, ["a", "b", EVIL])).text
    assert "a901090%" in words and "b257575%" in words and "precision95%60%–" in words
    titles = [cell["title"] for cell in Walk(confusion(counts, "abc")).all("td") if "title" in cell]
    assert titles == [
        "a found: 90 pixels, 90%",
        "a taken for b: 10 pixels, 10%",
        "b taken for a: 5 pixels, 25%",
        "b found: 15 pixels, 75%",
    ]


def test_of_very_many_classes_the_pairs_most_confused_are_shown():
    counts = np.eye(60, dtype=int) * 50
    counts[7, 9] = 150
    names = [f"c{i}" for i in range(60)]
    assert "c7c975%150" in Walk(confusion(counts, names)).text
    assert len(confusion(np.full((255, 255), 9), [f"class {i}" for i in range(255)])) < 20_000


def test_names_of_classes_and_files_are_text_on_the_page(run_train, tmp_path):
    folder = draw_squares(tmp_path / "own", 8)
    name_classes(folder, [EVIL, '"onerror="x', "&amp;"])
    for kind in ("images", "masks"):
        for path in (folder / kind).iterdir():
            path.rename(path.with_name(f'{path.stem}"<b>.png'))
    run_train(dataset="own", run_dir="run")
    words = words_of(tmp_path / "run" / "report.html")
    assert EVIL in words and '"onerror="x' in words and "&amp;" in words and '"<b>.png' in words


def test_worst_and_best_pictures_have_four_views_each_and_none_is_both(run_train, tmp_path):
    draw_squares(tmp_path / "own", 40)
    run_train(dataset="own", run_dir="run")
    walk = Walk(page_of(tmp_path / "run"))
    views = [found["data-view"] for found in walk.all("div") if "data-view" in found]
    assert views == ["image", "truth", "prediction", "errors"] * 6  # of test's six pictures
    shown = [found["alt"] for found in walk.all("img") if found["alt"].startswith("image of")]
    scores = [float(re.search(r"mean IoU (\d\.\d+)", alt)[1]) for alt in shown]
    assert len({*shown}) == 6 and scores[:4] == sorted(scores[:4])
    assert scores[4] >= scores[5] >= scores[3]


def test_the_truth_that_is_shown_is_the_mask(make_training):
    training = make_training()
    image, mask, preds = run_pictures.look_again(training, "val", 0)
    row = training.data.splits["val"][0]
    assert (mask == training.splits["val"].full_mask(0).numpy()).all()
    assert (
        image
        == training.data.read_pair(
            training.data.pairs[row], training.data.table.meaning, training.data.source.read_values
        )[0]
    ).all()
    result = train.judge(training.kept, training.splits["val"], training.place)
    matrix = ConfusionMatrix(3)
    for i in range(len(training.splits["val"])):
        _, mask, preds = run_pictures.look_again(training, "val", i)
        matrix.update(torch.from_numpy(preds), torch.from_numpy(mask))
    assert (matrix.counts == result.counts).all()


def page_without_running(training, split: str = "val", change=None) -> str:
    """The page of a run that took no step, judged on a split."""
    result = train.judge(training.kept, training.splits[split], training.place)
    names = training.data.table.names
    report = {}
    for name in training.data.splits:
        scores = train.judge(training.kept, training.splits[name], training.place).scores
        report[name] = reports.report_of(scores, names)
    facts = dict(parameters=1, seconds=1, device="cpu", precision="fp32", judged_on=split)
    report |= facts
    if change:
        change(report)
    return run_page.run_page(training, report, result.counts.numpy(), {})


def test_a_run_without_an_evaluation_or_a_test_split_has_a_page(make_training):
    text = page_without_running(make_training())
    words = Walk(text).text
    assert flaws_of(text) == []
    assert "There was no evaluation" in words
    assert "There is no test split" in words
    fold = page_without_running(make_training(), split="train")  # by which no weights were chosen
    assert "There is no test split" not in fold


def test_scores_that_are_no_number_are_dashes(make_training):
    training = make_training()

    def empty(report):
        scores = ConfusionMatrix(3)
        scores.update(torch.zeros(4, dtype=torch.int64), torch.full((4,), 255))
        report["val"] = reports.report_of(scores.scores(), ["a", "b", "c"])

    training.history = [
        {"step": step, "train_loss": math.nan, "val_loss": math.inf, "train_mean_iou": math.nan}
        | {"val_mean_iou": math.nan}
        for step in (2, 4)
    ]
    text = page_without_running(training, change=empty)
    assert flaws_of(text) == [] and "no pixel with a class" in Walk(text).text
    assert "Loss: no evaluation gave a number." in Walk(text).text


def test_intervals_and_few_pictures_are_shown_where_the_report_has_them(make_training):
    def add(report):
        report["val"]["mean_iou_interval"] = [0.111, 0.222]
        report["val"]["classes"][1] |= {"pictures": 3, "few": True}

    training = make_training()
    words = Walk(page_without_running(training, change=add)).text
    assert "95 % interval 0.111 to 0.222" in words and "redfew" in words
    assert "no 95 % interval, which takes 5" in Walk(page_without_running(training)).text


def test_one_picture_in_each_split_has_a_page(run_train, tmp_path):
    folder = draw_squares(tmp_path / "own", 5)
    move_into_splits(folder)
    run_train(dataset="own", run_dir="run")
    words = words_of(tmp_path / "run" / "report.html")
    assert "mean IoU on 1 test picture;" in words and "The worst" in words
    assert "The best" not in words


def test_a_page_that_cannot_be_drawn_ends_no_run(run_train, tmp_path, monkeypatch, capsys):
    draw_squares(tmp_path / "own", 8)
    monkeypatch.setattr(run_page, "what_is_weak", lambda _: 1 / 0)
    run_train(dataset="own", run_dir="run")
    assert run_train.status == 0 and (tmp_path / "run" / "report.json").exists()
    assert "run/report.html could not be drawn (division by zero)" in capsys.readouterr().out
    assert not (tmp_path / "run" / "report.html").exists()


def test_somebodys_report_in_a_runs_folder_stays(run_train, tmp_path, capsys):
    draw_squares(tmp_path / "own", 8)
    run_train(dataset="own", run_dir="run")
    (tmp_path / "run" / "report.html").write_text("mine")
    run_train(dataset="own", run_dir="run", resume="run")
    assert (tmp_path / "run" / "report.html").read_text() == "mine"
    assert "run/report.html is not from train.py, and stays" in capsys.readouterr().out
    words_of(tmp_path / "run" / "report-2.html")


def test_a_runs_own_page_is_drawn_anew(run_train, tmp_path):
    draw_squares(tmp_path / "own", 8)
    for resume in ("", "run"):
        run_train(dataset="own", run_dir="run", resume=resume)
    assert [path.name for path in (tmp_path / "run").glob("*.html")] == ["report.html"]
    assert "report.html" in runs.RUN_FILES


def test_many_large_pictures_stay_within_what_a_page_may_hold(make_training, monkeypatch):
    training = make_training()
    noise = np.random.default_rng(0).integers(0, 256, (700, 900, 3)).astype(np.uint8)
    ids = np.random.default_rng(1).integers(0, 3, (700, 900)).astype(np.uint8)
    monkeypatch.setattr(run_pictures, "look_again", lambda *_: (noise, ids, ids))
    groups = {"The worst": [run_pictures.Titled(0, "x")] * 4}
    parts = markup.html_of(run_pictures.judged_pictures(training, "val", groups))
    assert parts.count("<figure") == 4 and len(parts) < 3_000_000
    half = len(parts) // 2
    monkeypatch.setattr(run_pictures, "MOST", half)
    parts = markup.html_of(run_pictures.judged_pictures(training, "val", groups))
    assert 1 <= parts.count("<figure") < 4 and len(parts) < half + 2000


# ---- the settings and commands ----


def test_every_constant_has_its_remark():
    remarks = remarks_of(TRAIN)
    assert {*read_constants()} <= {*remarks}
    assert remarks["batch_size"] == "pictures in a micro-batch; what memory allows"
    assert all(remarks[name] for name in read_constants())


@pytest.mark.parametrize(
    "decay_factor, going_on",
    [(0.0, "training_iterations=8\n"), (1.2e7, "training_iterations=8 resume=run\n")],
)
def test_the_commands_repeat_and_lengthen_the_run(make_training, decay_factor, going_on):
    training = make_training(decay_factor=decay_factor)
    training.folder = Path("run")
    given = ["recipes/x.py", "dataset=a b", "run_dir=run", "--resume=true"]
    drawn = markup.html_of(run_page.how_to(training, given))
    commands = re.findall(r"<pre><code>(.*?)</code></pre>", drawn)
    assert [unescape(command) + "\n" for command in commands] == [
        "python train.py recipes/x.py 'dataset=a b'\n",
        f"python train.py recipes/x.py 'dataset=a b' {going_on}",
        "python inference.py checkpoint=run/best.pth\n",
    ]


# ---- what it says ----


def history_of(train_scores: list[float], val_scores: list[float]) -> list[dict]:
    rows = zip(train_scores, val_scores)
    return [
        {"step": 100 * i, "train_mean_iou": one, "val_mean_iou": other}
        for i, (one, other) in enumerate(rows, start=1)
    ]


def outcome(counts, history=(), pictures=50, **constants) -> Outcome:
    counts = np.array(counts)
    matrix = ConfusionMatrix(len(counts))
    matrix.counts += torch.from_numpy(counts)
    names = ["sky", "road", "pole", "car"][: len(counts)]
    scores = reports.report_of(matrix.scores(), names)
    history = list(history)
    best = max(range(len(history)), key=lambda i: history[i]["val_mean_iou"]) if history else 0
    known = {**read_constants(), **constants}
    judged = (counts, scores, "test", pictures)
    return Outcome(known, history, best, names, *judged, counts.sum(axis=1), 1.0)


GOOD = [[95, 5], [5, 95]]


def test_the_weakest_class_is_named_with_what_it_is_taken_for():
    said = what_is_weak(outcome([[90, 0, 0, 0], [2, 90, 0, 0], [10, 0, 20, 0], [0, 0, 0, 50]]))
    assert said.startswith("The weakest: pole has IoU 0.67: 33% of its pixels are taken for sky.")
    said = what_is_weak(outcome([[90, 0, 0], [0, 90, 0], [0, 9, 0]]))
    assert "pole is never found: 100% of it is taken for road" in said
    assert what_is_weak(outcome(GOOD)).startswith("No class falls behind")
    assert what_is_weak(outcome([[1, 99], [99, 1]])).startswith("Nothing is learnt yet")
    assert "Only road is in the test pictures" in what_is_weak(outcome([[0, 0], [1, 9]]))


def test_nearly_all_is_not_all():
    shown = [percent(share) for share in (0.05, 0.5, 0.994, 0.9998, 0.999999, 1)]
    assert shown == ["5.0%", "50%", "99%", "99.98%", "99.99%", "100%"]


def test_the_page_says_whether_training_should_have_gone_on():
    rising = [0.3, 0.4, 0.5, 0.6, 0.65, 0.7]
    flat = [0.3, 0.6, 0.7, 0.7, 0.701, 0.7]
    falling = [0.3, 0.6, 0.55, 0.5, 0.45, 0.4]
    high = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    for train_scores, val_scores, said in (
        (rising, rising, "Probably: validation gained 0.100 mean IoU"),
        (flat, flat, "No: validation stands still; its best was step 500 of 600."),
        (high, falling, "No: validation was best at step 200 of 600, and longer"),
        (high, falling, "the pictures are learnt by heart"),
        (high[:2], rising[:2], "With 2 evaluation(s) it can't be told"),
        (flat, high, "Validation is above training"),
    ):
        words = should_it_go_on(outcome(GOOD, history_of(train_scores, val_scores)))
        assert said in words
    assert "no evaluation" in should_it_go_on(outcome(GOOD))
    by_length = outcome(GOOD, history_of(rising, rising), lr_schedule="cosine")
    assert "however flat its end" in should_it_go_on(by_length)
    moving = {"lr_schedule": "cosine", "base_lr": 0.012, "min_lr": 0.003}
    said = should_it_go_on(outcome(GOOD, history_of(rising, rising), **moving))
    assert "Probably" in said and "however flat its end" not in said
    noisy = outcome(GOOD, history_of([0.3] * 6, [0.2, 0.31, 0.29, 0.3, 0.29, 0.295]))
    assert "would learn the training pictures" not in should_it_go_on(noisy)


def test_a_split_with_far_fewer_pixels_of_a_class_is_said_to_be_unlike():
    shares = {"train": np.array([0.9, 0.1]), "val": np.array([0.98, 0.02])}
    (said,) = unlike_splits(["sky", "pole"], shares)
    assert said == "val is unlike train: pole has 2.0% of its pixels, and 10% in train."
    assert not unlike_splits(["sky", "pole"], {"train": shares["train"], "val": shares["train"]})
    rare = np.array([0.999, 0.001])
    assert not unlike_splits(["sky", "pole"], {"train": rare, "test": np.array([1.0, 0.0])})


def test_what_to_try_follows_from_the_figures_and_is_not_what_is_set_already():
    rising = history_of([0.3, 0.4, 0.5, 0.6], [0.3, 0.4, 0.5, 0.6])
    assert "train longer: training_iterations=3360" in what_to_try(outcome(GOOD, rising))
    heart = history_of([0.5, 0.7, 0.9, 0.95], [0.5, 0.6, 0.6, 0.6])
    (said,) = what_to_try(outcome(GOOD, heart))
    assert "augment_strength=2, or mix=0.5" in said and "dropout" not in said
    (said,) = what_to_try(outcome(GOOD, heart, augment_strength=2.0, mix=0.5))
    assert "by heart: dropout=0.1, or more training pictures" in said
    (said,) = what_to_try(outcome(GOOD, heart, mix=0.5, dropout=(0.1, 0.1)))
    assert "mix" not in said and "dropout" not in said
    early = history_of([0.1, 0.2], [0.1, 0.2])
    assert not any("a larger net" in said for said in what_to_try(outcome(GOOD, early)))
    low = history_of([0.2] * 5, [0.2] * 5)
    assert any("a larger net" in said for said in what_to_try(outcome(GOOD, low)))
    rare = [[990, 0, 0], [0, 990, 0], [4, 0, 6]]
    found = outcome(rare)
    assert any("class_weights=0.5" in said for said in what_to_try(found))
    assert any("look at the masks of pole and sky: 40%" in said for said in what_to_try(found))
    assert any(
        "image_size, such as 120,192" in one for one in what_to_try(found._replace(scale=0.5))
    )
    unseen = found._replace(trained_on=np.array([9, 9, 0]))
    assert any("put pictures with pole into training" in said for said in what_to_try(unseen))
    assert any("3 in test say little" in said for said in what_to_try(outcome(GOOD, pictures=3)))
    still = history_of([0.5, 0.6, 0.6, 0.6], [0.5, 0.6, 0.6, 0.6])
    assert any("features=32,64,128" in said for said in what_to_try(outcome(GOOD, still)))
    done = history_of([0.8, 0.9, 0.9, 0.9], [0.8, 0.9, 0.9, 0.9])
    assert what_to_try(outcome(GOOD, done)) == [
        "nothing stands out in these figures: more pictures help most"
    ]


def test_ticks_are_round_and_hold_what_is_drawn():
    assert ticks(0, 1200) == [0, 500, 1000, 1500]
    for low, high in ((0.65, 0.92), (0, 1e-5), (0.5, 0.5), (-3, 700), (1e6, 1e6 + 1)):
        found = ticks(low, high)
        assert found[0] <= low + 1e-9 and found[-1] >= high - 1e-9 and 2 <= len(found) <= 9


def test_a_curve_of_one_evaluation_is_drawn():
    row = {"step": 2, "train_loss": 0.5, "val_loss": math.nan}
    walk = Walk(curve([row], "loss", "Loss", 2))
    assert walk.flaws == [] and len(walk.all("circle")) == 1


def test_the_commonest_sizes_are_named(make_training):
    data = make_training().data
    data.sizes = np.array([[20, 30]] * 3 + [[i, 9] for i in range(1, 6)])
    assert sizes_of(data) == "30×20 (3), 9×1 (1), 9×2 (1), 9×3 (1), 2 other sizes (2)"


# ---- inference's page ----


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    return make_place(tmp_path, monkeypatch)


def draw(place: Path, name: str, seed: int = 0, size: tuple[int, int] = (30, 20)) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3)).astype(np.uint8)
    path = place / "TestImages" / name
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(noise).save(path)


def index(place: Path) -> Path:
    return place / "TestPredictions" / "index.html"


def test_inference_ends_with_a_card_for_each_row(place, monkeypatch, capsys):
    names = ["a.png", "b c#?.png", 'd"<b>&.png', "é%20.png"]
    for seed, name in enumerate(names):
        draw(place, name, seed)
    draw(place, "sub/a.png", 9)
    monkeypatch.setattr(inference, "recursive", True)
    assert inference.main() == 0
    assert f"all of them on one page: {index(place).relative_to(place.parent)}" in (
        capsys.readouterr().out
    )
    words_of(index(place))
    walk = Walk(index(place).read_text(encoding="utf-8"))
    with open(place / "TestPredictions" / "predictions.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = [one for one in walk.all("li") if one["class"] == "card"]
    assert [one["data-confidence"] for one in found] == [row["mean_confidence"] for row in rows]
    for one, row in zip(found, rows):
        shares = dict(part.split(":") for part in one["data-shares"].split())
        assert {i: row[("ground", "red", "blue")[int(i)]] for i in shares} == shares
    assert len(walk.all("img")) == 2 * len(rows) == 10
    links = [unquote(one["href"]) for one in walk.all("a")]
    assert len(links) == 15
    for link in links:
        assert (place / "TestPredictions" / link).resolve().is_file(), link


@pytest.mark.parametrize("passes", [0, 3])
def test_the_page_shows_predictions_without_overlays_and_uncertainty_where_there_is(
    place, monkeypatch, passes
):
    draw(place, "a.png")
    monkeypatch.setattr(inference, "overlay", False)
    monkeypatch.setattr(inference, "uncertainty_passes", passes)
    inference.main()
    words = words_of(index(place))
    assert "mask · overlay" not in words and len(Walk(index(place).read_text()).all("img")) == 2
    assert ("uncertainty · picture" in words) == (passes > 0) == (", uncertainty 0." in words)


def test_what_a_card_shows_is_the_picture_and_its_mask(place):
    ramp = np.linspace(0, 255, 30 * 20 * 3).reshape(20, 30, 3).astype(np.uint8)
    Image.fromarray(ramp).save(place / "TestImages" / "a.png")
    inference.main()
    picture, mask = Walk(index(place).read_text()).all("img")
    with Image.open(place / "TestPredictions" / "a.png") as ids:
        assert (read_uri(mask["src"]) == np.array(ids.convert("RGB"))).all()
    assert np.abs(read_uri(picture["src"]).astype(int) - ramp).mean() < 3


def test_what_was_coloured_before_is_taken_from_the_last_page_or_from_the_files(
    place, monkeypatch, capsys
):
    for seed in range(3):
        draw(place, f"{seed}.png", seed)
    inference.main()
    first = index(place).read_bytes()
    drawn = []
    real = cards.draw_shot

    def counted(*given):
        drawn.append(1)
        return real(*given)

    monkeypatch.setattr(inference_page, "draw_shot", counted)
    inference.main()
    assert not drawn and index(place).read_bytes() == first
    index(place).unlink()
    inference.main()
    assert len(drawn) == 3 and index(place).read_bytes() == first
    index(place).unlink()
    (place / "TestImages" / "1.png").touch()  # it is coloured again
    inference.main()
    assert len(drawn) == 5 and len(Walk(index(place).read_text()).all("img")) == 6


def test_of_many_pictures_the_least_sure_are_shown_and_the_page_stays_small(place, monkeypatch):
    for seed in range(9):
        draw(place, f"{seed}.png", seed)
    monkeypatch.setattr(cards, "SIDES", ((1, 360), (4, 16)))
    inference.main()
    words = words_of(index(place))
    assert "9 pictures; 4 of them, the least sure, are shown, the others by name" in words
    text = index(place).read_text()
    found = re.findall(
        r'<li class="card" data-confidence="([\d.]+)" data-shares="[^"]*">(<div)?', text
    )
    assert len(found) == 9
    shown = [float(confidence) for confidence, has in found if has]
    others = [float(confidence) for confidence, has in found if not has]
    assert len(shown) == 4 and max(shown) <= min(others)
    room = len(re.search('<ul class="cards".*</ul>', text)[0])
    monkeypatch.setattr(inference_page, "PAGE", room - 1000)
    inference.main()
    fewer = Walk(index(place).read_text()).all("img")
    assert 0 < len(fewer) < 8 and fewer[0]["src"] in text
    monkeypatch.setattr(inference_page, "PAGE", 4000)
    inference.main()
    said = r"9 pictures; the [1-8] least sure are here, predictions\.csv has all"
    assert re.search(said, words_of(index(place)))


def test_a_hundred_large_pictures_of_noise_stay_below_ten_megabytes(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (900, 700, 3)).astype(np.uint8)
    ids = np.random.default_rng(0).integers(0, 9, (900, 700)).astype(np.uint8)
    colors = [(i, i, i) for i in range(9)]
    shots = cards.Shots(colors, 100)
    rows = []
    for i in range(100):
        files = {"mask": f"{i}.png"}
        rows.append(
            cards.Card(f"{i}", tmp_path / f"{i}", files, f"k{i}", i / 100, np.ones(9) / 9, None)
        )
    shots.add("k0", 0.0, noise, ids)
    for i in range(1, 100):
        shots.kept[f"k{i}"] = shots.kept["k0"]
    text = inference_page.inference_page(rows, shots, [f"c{i}" for i in range(9)], tmp_path)
    assert flaws_of(text) == [] and len(text.encode()) < 10_000_000
    assert text.count('class="shot"') > 50


def test_somebodys_index_stays_and_another_name_is_taken(place, capsys):
    draw(place, "a.png")
    index(place).parent.mkdir()
    index(place).write_text("<title>mine</title>")
    for _ in range(2):
        assert inference.main() == 0
        said = capsys.readouterr().out
        assert "index.html is not from inference.py, and stays as it is" in said
        assert "on one page: InferenceOutput/TestPredictions/index-2.html" in said
    assert index(place).read_text() == "<title>mine</title>"
    assert len(list(index(place).parent.glob("*.html"))) == 2


@pytest.mark.parametrize("kind", ["folder", "pipe", "link"])
def test_what_is_no_file_is_nobodys_page(tmp_path, kind):
    path = tmp_path / "index.html"
    {"folder": path.mkdir, "pipe": lambda: os.mkfifo(path), "link": lambda: path.symlink_to("x")}[
        kind
    ]()
    assert put_page(path, "inference.py", "x").name == "index-2.html"


def test_a_page_that_cannot_be_drawn_ends_no_inference(place, monkeypatch, capsys):
    draw(place, "a.png")
    monkeypatch.setattr(cards, "draw_shot", lambda *_: 1 / 0)
    assert inference.main() == 0
    assert "a.png could not be drawn (division by zero)" in capsys.readouterr().out
    monkeypatch.setattr(inference_page, "inference_page", lambda *_: 1 / 0)
    assert inference.main() == 0
    said = capsys.readouterr().out
    assert "index.html could not be drawn (division by zero); predictions.csv has" in said


# ---- in a browser ----

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PROBE = """
const wait = () => new Promise((done) => setTimeout(done, 50));
onload = async () => {
  const found = {};
  for (const frame of document.querySelectorAll("iframe")) {
    const view = frame.contentDocument, root = view.documentElement;
    found[frame.width] = [root.scrollWidth, root.scrollHeight];
    found.pictures = [...view.images].every((one) => one.naturalWidth > 0);
    found.asked = frame.contentWindow.performance.getEntriesByType("resource")
      .map((one) => one.name).filter((one) => !one.startsWith("data:"));
    found.did = [];
    DO
  }
  document.title = "";
  const said = document.createElement("pre");
  said.id = "found";
  said.textContent = JSON.stringify(found);
  document.body.append(said);
};
"""
SLIDE = """
    const slider = view.getElementById("views");
    for (const value of [0, 1, 2, 3]) {
      slider.value = value;
      slider.dispatchEvent(new Event("input"));
      const shown = [...view.querySelectorAll(".view")].filter((one) => one.offsetHeight > 0);
      found.did.push(shown.length, shown[0].dataset.view, slider.getAttribute("aria-valuetext"));
    }
"""
SORT = """
    const choice = view.getElementById("sort"), turn = view.getElementById("turn");
    const names = () => [...view.querySelectorAll(".card b")].map((one) => one.textContent);
    for (const value of ["confidence", "1", "file"]) {
      choice.value = value;
      choice.dispatchEvent(new Event("change"));
      found.did.push(names());
    }
    turn.click();
    found.did.push(names());
    const over = view.querySelector(".over");
    found.did.push(over.offsetHeight > 0);
    view.getElementById("overlay").click();
    found.did.push(over.offsetHeight > 0);
"""


def browser() -> str:
    found = [path for name in BROWSERS if (path := shutil.which(name))]
    if not found:
        pytest.skip(f"none of {', '.join(BROWSERS)} is here to open pages with")
    return found[0]


def browse(folder: Path, page: Path, *options: str) -> str:
    command = [browser(), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    command += [f"--user-data-dir={folder / 'profile'}", "--disable-background-networking"]
    command += ["--host-resolver-rules=MAP * ~NOTFOUND", *options, page.resolve().as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def probe(folder: Path, page: Path, deed: str) -> dict:
    """What a browser finds in a page 1280 and 400 pixels wide, once it has done something there;
    the page's own policy, which would keep the probe out, is taken off."""
    text = re.sub(r"<meta http-equiv=[^>]*>", "", page.read_text(encoding="utf-8"))
    frames = [
        f'<iframe width="{width}" height="900" srcdoc="{escape(text)}"></iframe>'
        for width in (1280, 400)
    ]
    script = PROBE.replace("DO", deed)
    path = folder / "probe.html"
    path.write_text(f"<body>{''.join(frames)}<script>{script}</script>", encoding="utf-8")
    said = browse(folder, path, "--virtual-time-budget=5000", "--dump-dom")
    return json.loads(unescape(re.search(r'<pre id="found">(.*?)</pre>', said, re.S)[1]))


def test_a_browser_shows_the_runs_page_and_its_slider_moves(run_train, tmp_path):
    browser()
    draw_squares(tmp_path / "own", 20, size=(20, 28))
    run_train(dataset="own", run_dir="run")
    page = tmp_path / "run" / "report.html"
    found = probe(tmp_path, page, SLIDE)
    assert found["asked"] == [] and found["pictures"]
    assert found["1280"][0] <= 1280 and found["400"][0] <= 400
    views = ["image", "truth", "prediction", "errors"]
    assert found["did"] == [part for view in views for part in (3, view, view)]
    # With the page's own policy its own script still runs, and without scripts all views stand.
    opened = browse(tmp_path, page, "--dump-dom")
    assert '<html lang="en" class="js">' in opened and 'data-view="errors"' in opened


def test_a_browser_sorts_the_cards_and_takes_the_classes_off(place, tmp_path):
    browser()
    for seed in range(4):
        draw(place, f"{seed}.png", seed, size=(30 + 20 * seed, 20))
    inference.main()
    with open(place / "TestPredictions" / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = probe(tmp_path, index(place), SORT)
    assert found["asked"] == [] and found["pictures"]
    assert found["1280"][0] <= 1280 and found["400"][0] <= 400
    by_confidence = sorted(rows, key=lambda row: float(row["mean_confidence"]))
    by_red = sorted(rows, key=lambda row: -float(row["red"]))
    names = [f"{i}.png" for i in range(4)]
    assert found["did"] == [
        [row["file"] for row in by_confidence],
        [row["file"] for row in by_red],
        names,
        names[::-1],
        True,
        False,
    ]


@pytest.mark.parametrize("width", [1280, 500])
def test_a_screenshot_of_the_page_is_not_empty(run_train, tmp_path, width):
    browser()
    draw_squares(tmp_path / "own", 10)
    run_train(dataset="own", run_dir="run")
    shot = tmp_path / "shot.png"
    size = f"--window-size={width},1500"
    browse(tmp_path, tmp_path / "run" / "report.html", size, f"--screenshot={shot}")
    with Image.open(shot) as picture:
        assert picture.width == width and len(picture.convert("RGB").getcolors(2**24)) > 50
