"""The cards of inference's page: a picture under its classes' colours, what it holds, how sure the
net is."""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from heapq import heappop, heappush
from pathlib import Path
from threading import Lock
from typing import NamedTuple
from urllib.parse import quote

from toolbox.pages.markup import Html, called, css_color, element, percent
from toolbox.pages.shots import mask_uri, picture_uri, shrunk, shrunk_mask

import numpy as np

SIDES = ((200, 360), (400, 240), (1000, 144))  # up to so many pictures: their longer side
URI = r"data:image/(?:png|jpeg);base64,[A-Za-z0-9+/=]+"
SHOT = re.compile(
    rf'<div class="shot" data-key="([^"]+)"><img src="({URI})"[^>]*><img src="({URI})"'
)
NAMED = 4  # classes that a card names


class Shot(NamedTuple):
    """A picture and its mask, small, as data URIs."""

    picture: str
    mask: str


class Card(NamedTuple):
    """A row of predictions.csv."""

    label: str
    path: Path
    files: dict[str, str]  # what was made of it, by kind: names in output_dir
    key: str
    confidence: float
    shares: np.ndarray  # of the classes (K,)
    uncertainty: float | None


def draw_shot(image: np.ndarray, ids: np.ndarray, colors: Sequence, side: int) -> Shot:
    return Shot(picture_uri(shrunk(image, side)), mask_uri(shrunk_mask(ids, side), colors))


class Shots:
    """Those of the pictures that the net is least sure of, as many as a page shows; the threads
    that write predictions add them while the pictures are in memory."""

    def __init__(self, colors: Sequence, count: int):
        enough = [(most, side) for most, side in SIDES if count <= most]
        self.most, self.side = enough[0] if enough else SIDES[-1]
        self.colors = colors
        self.kept: dict[str, Shot] = {}  # by key
        self.ranked: list[tuple[float, str]] = []  # the surest first
        self.lock = Lock()

    def is_wanted(self, confidence: float) -> bool:
        return len(self.ranked) < self.most or confidence < -self.ranked[0][0]

    def add(self, key: str, confidence: float, image: np.ndarray, ids: np.ndarray) -> None:
        with self.lock:
            is_wanted = self.is_wanted(confidence)
        if not is_wanted:
            return
        shot = draw_shot(image, ids, self.colors, self.side)
        with self.lock:
            self.kept[key] = shot
            heappush(self.ranked, (-confidence, key))
            if len(self.ranked) > self.most:
                _, surest = heappop(self.ranked)
                del self.kept[surest]

    def read_earlier(self, page: Path) -> dict[str, Shot]:
        """Those of an earlier page that were drawn at this size."""
        if not page.is_file():
            return {}
        found = SHOT.findall(page.read_text(encoding="utf-8", errors="replace"))
        ending = f"-{self.side}"
        return {
            mark.removesuffix(ending): Shot(picture, mask)
            for mark, picture, mask in found
            if mark.endswith(ending)
        }


# ---- one card ----


def links(card: Card, output_dir: Path) -> Html:
    """The full files, and the picture itself."""
    places = dict(card.files)
    with suppress(ValueError):  # on another of Windows' drives
        places["picture"] = os.path.relpath(card.path, output_dir).replace(os.sep, "/")
    found = []
    for kind, place in places.items():
        if found:
            found.append(" · ")
        found.append(element("a", kind, href=quote(os.fsencode(place))))
    return element("p", found)


def shares_of(card: Card, names: Sequence[str], colors: Sequence) -> list[Html]:
    """The classes' shares as a bar, and the largest by name."""
    ranked = sorted(np.flatnonzero(card.shares).tolist(), key=lambda i: -card.shares[i])
    parts, words = [], []
    for i in ranked:
        style = f"width:{card.shares[i]:.2%};background:{css_color(colors[i])}"
        title = f"{called(names[i])} {percent(float(card.shares[i]))}"
        parts.append(element("span", style=style, title=title))
        words.append(title)
    more = [f"{len(words) - NAMED} more"] if len(words) > NAMED else []
    said = ", ".join([*words[:NAMED], *more])
    drawn = element("div", parts, class_="stacked", role="img", aria_label=said)
    return [drawn, element("p", said)]


def draw_card(
    card: Card, shot: Html | None, names: Sequence[str], colors: Sequence, output_dir: Path
) -> Html:
    """A card with the figures that the page's script sorts by."""
    sure = f"mean confidence {card.confidence:.3f}"
    if card.uncertainty is not None:
        sure += f", uncertainty {card.uncertainty:.3f}"
    there = np.flatnonzero(card.shares >= 0.00005).tolist()
    figures = {
        "data_confidence": f"{card.confidence:.4f}",
        "data_uncertainty": None if card.uncertainty is None else f"{card.uncertainty:.4f}",
        "data_shares": " ".join(f"{i}:{card.shares[i]:.4f}" for i in there),
    }
    name = element("b", called(card.label))
    parts = [name, shares_of(card, names, colors), element("p", sure), links(card, output_dir)]
    return element("li", shot, parts, class_="card", **figures)


def draw_shots(card: Card, shot: Shot, side: int) -> Html:
    """The picture with its mask over it; read_earlier knows them by this form."""
    label = called(card.label)
    picture = element("img", src=shot.picture, alt=label)
    over = element("img", src=shot.mask, alt=f"classes of {label}", class_="over")
    return element("div", picture, over, class_="shot", data_key=f"{card.key}-{side}")
