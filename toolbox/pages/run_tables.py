"""The tables of a run's page: the data at a glance, the classes, what is taken for what."""

import math
from collections import Counter
from collections.abc import Sequence

from toolbox.pages.markup import (
    Html,
    called,
    css_color,
    element,
    in_digits,
    percent,
    scrolled,
    swatch,
    table,
)
from toolbox.pages.verdict import taken_for
from toolbox.prepared import Data
from toolbox.values import IGNORE

import numpy as np

SEEN = 0.005  # share of the pixels below which a class tells little of a split
UNLIKE = 3  # times as many pixels in one split as in the other
MOST = 40  # classes that a matrix is readable with; of more, the pairs most often confused
INTERVAL = "95 % interval"

# ---- the data ----


def stacked(shares: Sequence[float], names: Sequence[str], colors: Sequence, words: str) -> Html:
    """A bar whose parts are the classes' shares."""
    parts = []
    for share, name, color in zip(shares, names, colors):
        if share > 0:
            style = f"width:{share:.2%};background:{css_color(color)}"
            title = f"{called(name)} {percent(share)}"
            parts.append(element("span", style=style, title=title))
    return element("div", parts, class_="stacked", role="img", aria_label=words)


def sizes_of(data: Data) -> str:
    """The commonest sizes, with how many pictures have them."""
    counted = Counter(map(tuple, data.sizes.tolist())).most_common()
    words = [f"{width}×{height} ({count:,})" for (height, width), count in counted[:4]]
    if len(counted) > 4:
        pictures = sum(count for _, count in counted[4:])
        words.append(f"{len(counted) - 4} other sizes ({pictures:,})")
    return ", ".join(words)


def data_at_a_glance(data: Data) -> list[Html]:
    """Pairs, sizes and splits; each split's class shares as a bar and as figures."""
    names = [*data.table.names, "ignored"]
    colors = [*data.table.colors, (255, 255, 255)]
    splits = {split: f"{split} {len(rows):,}" for split, rows in data.splits.items()}
    height, width = data.image_size
    facts = (
        f"{len(data.pairs):,} pictures with masks: {', '.join(splits.values())}. Sizes on disk "
        f"(width×height): {sizes_of(data)}; the net sees {width}×{height}."
    )
    parts, columns = [element("p", facts)], []
    for split, rows in data.splits.items():
        counts = data.pixels[rows].sum(axis=0)
        counts = np.append(counts[: len(names) - 1], counts[IGNORE])
        shares = counts / max(1, counts.sum())
        columns.append(shares)
        words = f"shares of the classes' pixels in {split}; the table below has the figures"
        label = element("span", splits[split], class_="label")
        row = [label, stacked(shares, names, colors, words)]
        parts.append(element("div", row, class_="bar-row"))
    rows = []
    for name, color, *shares in zip(names, colors, *columns):
        if name != "ignored" or any(shares):
            cells = [percent(share) if share else "–" for share in shares]
            rows.append([[swatch(color), called(name)], *cells])
    shares = table("Share of all pixels", ["class", *data.splits], rows, class_="figures")
    words = [*data.notes, *unlike_splits(names, dict(zip(data.splits, columns)))]
    return [*parts, shares, *(element("p", word, class_="note") for word in words)]


def unlike_splits(names: Sequence[str], shares: dict[str, np.ndarray]) -> list[str]:
    """Each split whose pixels of a class are far fewer or far more than in training."""
    said = []
    for split, there in shares.items():
        few, many = np.sort([shares["train"], there], axis=0)
        ratio = np.where(many >= SEEN, many / np.maximum(few, 1e-6), 0)
        most = int(ratio.argmax())
        if ratio[most] >= UNLIKE:
            said.append(
                f"{split} is unlike train: {called(names[most])} has {percent(there[most])} of its "
                f"pixels, and {percent(shares['train'][most])} in train."
            )
    return said


# ---- the classes ----


def bar(value: float | None) -> Html:
    """A score with a bar behind it."""
    style = None if value is None else f"--part:{value:.1%}"
    return element("span", in_digits(value), class_="bar", style=style)


def recall_and_precision(counts: np.ndarray) -> tuple[list, list]:
    """By class: the share of its pixels that is found, and of what is taken for it that is it; None
    where there is nothing to share."""
    results = []
    for totals in (counts.sum(axis=1), counts.sum(axis=0)):
        pairs = zip(counts.diagonal().tolist(), totals.tolist())
        results.append([hits / total if total else None for hits, total in pairs])
    return results[0], results[1]


def interval(entry: dict, key: str) -> str | None:
    """A 95 % interval in words, where the report has one."""
    ends = entry.get(key)
    if not ends or any(end is None or math.isnan(end) for end in ends):
        return None
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def class_row(entry: dict, color: Sequence[int], heads: Sequence[str], found: list) -> list:
    """A class's cells under these heads; found are its recall and precision."""
    name = [swatch(color), called(entry["name"])]
    if entry.get("few"):
        name.append(element("span", "few", class_="few", title="in too few pictures to be sure"))
    row = [name, bar(entry["iou"])]
    if INTERVAL in heads:
        row.append(interval(entry, "iou_interval") or "–")
    row += [in_digits(entry["dice"]), *map(in_digits, found), percent(entry["share"])]
    if "pictures" in heads:
        row.append(entry.get("pictures", "–"))
    return row


def classes_table(scores: dict, colors: Sequence, counts: np.ndarray, split: str) -> list[Html]:
    """The classes, the weakest first; those that are not judged last."""
    classes = scores["classes"]
    heads = ["class", "IoU", "Dice", "recall", "precision", "share of known pixels"]
    if any(interval(entry, "iou_interval") for entry in classes):
        heads.insert(2, INTERVAL)
    if any("pictures" in entry for entry in classes):
        heads.append("pictures")
    recall, precision = recall_and_precision(counts)

    def weakness(i: int) -> float:
        return 2 if classes[i]["iou"] is None else classes[i]["iou"]

    rows = []
    for i in sorted(range(len(classes)), key=weakness):
        rows.append(class_row(classes[i], colors[i], heads, [recall[i], precision[i]]))
    words = (
        "IoU: pixels that are of the class and found, out of those that are either. Recall: the "
        "share of the class that is found. Precision: the share of what is taken for it that is it."
    )
    parts = [element("p", words, class_="note")]
    parts.append(table(f"Classes in {split}, the weakest first", heads, rows, class_="figures"))
    if any(entry.get("few") for entry in classes):
        few = "“few”: the class is in so few pictures that its score may be chance."
        parts.append(element("p", few, class_="note"))
    return parts


# ---- what is taken for what ----


def matrix_cell(share: float, count: int, is_right: bool, words: str) -> Html:
    if not count:
        return element("td")
    kind = ("right" if is_right else "wrong") + (" deep" if is_right and share > 0.55 else "")
    shown = f"{share * 100:.0f}" if share >= 0.005 else ""
    title = f"{words}: {count:,} pixels, {percent(share)}"
    tint = share if is_right else math.sqrt(share)  # one mistake in twenty is to be seen
    return element("td", shown, class_=kind, style=f"--s:{tint:.2f}", title=title)


def matrix(counts: np.ndarray, names: Sequence[str]) -> Html:
    """Rows are true classes in per cent, with recall at their end; precision is under each
    column."""
    names = [called(name) for name in names]
    recall, precision = recall_and_precision(counts)
    heads = [element("th", element("span", name), scope="col", class_="up") for name in names]
    ends = element("th", element("span", "recall"), scope="col", class_="up")
    rows = []
    for i, name in enumerate(names):
        total = max(1, int(counts[i].sum()))
        cells = []
        for j, other in enumerate(names):
            count = int(counts[i, j])
            words = f"{name} taken for {other}" if i != j else f"{name} found"
            cells.append(matrix_cell(count / total, count, i == j, words))
        end = element("td", percent(recall[i]), class_="sum")
        rows.append(element("tr", element("th", name, scope="row"), cells, end))
    sums = [element("td", percent(value), class_="sum") for value in precision]
    foot = element("tr", element("th", "precision", scope="row"), sums, element("td"))
    corner = element("th", "true ↓ taken for →", scope="col", class_="corner")
    caption = (
        "Each true class's pixels by the class they were taken for, in per cent of the row; less "
        "than a half is left blank"
    )
    head = element("thead", element("tr", corner, heads, ends))
    body = [element("tbody", rows), element("tfoot", foot)]
    whole = element("table", element("caption", caption), head, body, class_="matrix")
    return scrolled(caption, whole)


def confused_pairs(counts: np.ndarray, names: Sequence[str]) -> Html:
    """The pairs with the largest share of a class lost to one other."""
    pairs = []
    for i, name in enumerate(names):
        other, share = taken_for(counts, i)
        if share > 0:
            pairs.append((share, called(name), called(names[other]), int(counts[i, other])))
    rows = []
    for share, name, other, count in sorted(pairs, reverse=True)[:MOST]:
        rows.append([name, other, percent(share), f"{count:,}"])
    caption = "The classes that lose most to another"
    return table(caption, ["true", "taken for", "share of it", "pixels"], rows, class_="figures")


def confusion(counts: np.ndarray, names: Sequence[str]) -> Html:
    if len(names) > MOST:
        return confused_pairs(counts, names)
    return matrix(counts, names)
