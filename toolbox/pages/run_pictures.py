"""The pictures of a run's page, the worst and the best, with truth, prediction and errors."""

from collections.abc import Sequence
from typing import NamedTuple

from toolbox.keeping import Run
from toolbox.pages.markup import Html, called, color_keys, element
from toolbox.pages.shots import PAGE, mask_uri, picture_uri, shrunk, shrunk_mask
from toolbox.pictures import mark_errors
from toolbox.tiles import classes_at, whole_logits

import numpy as np
import torch

SIDE = 480  # pixels of a picture's longer side
VIEWS = ("image", "truth", "prediction", "errors")
MOST = PAGE * 3 // 4  # bytes that pictures may take; the rest is for the tables


class Titled(NamedTuple):
    """A picture of the split that judges, and a line on how it went."""

    index: int
    title: str


@torch.no_grad()
def look_again(run: Run, split: str, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Image (H, W, 3), mask and prediction (H, W) of a picture, as they were judged: at the mask's
    own size."""
    data = run.data
    pair = data.pairs[data.splits[split][index]]
    image, mask = data.read_pair(pair, data.table.meaning, data.source.read_values)
    small, small_mask = run.splits[split][index]
    run.kept.eval()
    images, _ = run.place.put((small[None], small_mask[None]))
    logits = whole_logits(run.kept, images, run.place)
    preds = classes_at(logits, *mask.shape)
    return image, mask, preds.byte().cpu().numpy()


def views_of(run: Run, split: str, index: int) -> list[str]:
    """A picture's four views, as data URIs."""
    image, mask, pred = look_again(run, split, index)
    image = shrunk(image, SIDE)
    mask, pred = shrunk_mask(mask, SIDE), shrunk_mask(pred, SIDE)
    colors = run.data.table.colors
    masks = [mask_uri(mask, colors), mask_uri(pred, colors)]
    return [picture_uri(image), *masks, picture_uri(mark_errors(image, mask, pred))]


def figure(one: Titled, views: Sequence[str]) -> Html:
    """Four views beside each other; the page's script lays them over each other."""
    parts = []
    for name, uri in zip(VIEWS, views):
        kind = "pixels" if name in ("truth", "prediction") else None
        shown = element("img", src=uri, alt=f"{name} of {one.title}", class_=kind)
        parts.append(element("div", shown, element("span", name), class_="view", data_view=name))
    caption = element("figcaption", called(one.title))
    return element("figure", caption, element("div", parts, class_="views"), class_="judged")


def slider() -> Html:
    """Which of the four views all pictures show; hidden where no script can move it."""
    said = f"{' · '.join(VIEWS)}; a click on a picture moves on"
    names = element("span", said, id="view-names", class_="note")
    label = element("label", "Show: ", element("output", "errors", id="view"), for_="views")
    bar = {"min": 0, "max": len(VIEWS) - 1, "value": len(VIEWS) - 1, "step": 1}
    moved = element("input", type="range", id="views", aria_describedby="view-names", **bar)
    return element("div", label, moved, names, class_="slider", hidden=True)


def judged_pictures(run: Run, split: str, groups: dict[str, Sequence[Titled]]) -> list[Html]:
    """The pictures of each group under its heading, as many as the page has room for."""
    words = "In errors wrong pixels are orange and right ones grey. Ignored ones are white."
    table, left = run.data.table, MOST
    parts = [slider(), element("p", words, class_="note"), color_keys(table.names, table.colors)]
    for heading, pictures in groups.items():
        figures = []
        for one in pictures:
            views = views_of(run, split, one.index)
            left -= sum(map(len, views))
            if left > 0:
                figures.append(figure(one, views))
        if figures:
            parts += [element("h3", heading), element("div", figures, class_="judged-all")]
    return parts
