"""TestPredictions/index.html: every picture of a call of inference.py on one page."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from toolbox.drawings import drawing
from toolbox.files import own_path
from toolbox.masks import read_image
from toolbox.pages.cards import Card, Shots, draw_card, draw_shot, draw_shots
from toolbox.pages.markup import Html, called, color_keys, element, is_page_of, page, put_page
from toolbox.pages.shots import PAGE

import numpy as np
from PIL import Image

MAKER = "inference.py"


def find_missing(cards: Sequence[Card], shots: Shots, output_dir: Path) -> None:
    """The pictures of the least sure that were coloured before: from the last page, or from the
    files."""
    earlier = {}
    with suppress(OSError):
        earlier = shots.read_earlier(own_path(output_dir / "index.html", is_page_of(MAKER)))
    for card in sorted(cards, key=lambda card: card.confidence)[: shots.most]:
        if card.key in shots.kept:
            continue
        shot = earlier.get(card.key)
        if shot is None:
            with drawing(card.path, "the page goes without it"):
                with Image.open(output_dir / card.files["mask"]) as picture:
                    ids = np.array(picture)
                shot = draw_shot(read_image(card.path), ids, shots.colors, shots.side)
        if shot:
            shots.kept[card.key] = shot


def fitting(
    places: Sequence[int], draw: Callable[[int], Html | None], room: int
) -> dict[int, Html]:
    """What is drawn for these places, in turn, until so many bytes are used up."""
    found = {}
    for place in places:
        drawn = draw(place)
        if drawn is None:
            continue
        room -= len(drawn.encode())
        if room < 0:
            break
        found[place] = drawn
    return found


def tools(names: Sequence[str], is_unsure: bool) -> Html:
    """What is sorted by, which way, and whether classes are seen: sorting takes the script."""
    kinds = [("file", "file"), ("confidence", "confidence")]
    if is_unsure:
        kinds.append(("uncertainty", "uncertainty"))
    kinds += [(str(i), f"share of {called(name)}") for i, name in enumerate(names)]
    options = [element("option", words, value=value) for value, words in kinds]
    chosen = element("select", options, id="sort")
    turned = element("button", "↑ lowest first", type="button", id="turn")
    sorting = element(
        "span", element("label", "Sort by ", chosen), " ", turned, id="sorting", hidden=True
    )
    box = element("input", type="checkbox", id="overlay", checked=True)
    return element(
        "div", element("label", box, " classes over the pictures"), sorting, class_="tools"
    )


def inference_page(
    cards: Sequence[Card], shots: Shots, names: Sequence[str], output_dir: Path
) -> str:
    """The whole page: as many cards as it has room for, as many of them with a picture as do; where
    not all have, it is those of the least sure."""
    colors = shots.colors

    def draw_plain(i: int) -> Html:
        return draw_card(cards[i], None, names, colors, output_dir)

    def draw_picture(i: int) -> Html | None:
        shot = shots.kept.get(cards[i].key)
        return draw_shots(cards[i], shot, shots.side) if shot else None

    places = sorted(range(len(cards)), key=lambda i: cards[i].confidence)
    drawn = fitting(places, draw_plain, PAGE // 2)
    used = sum(len(card.encode()) for card in drawn.values())
    pictured = fitting(list(drawn), draw_picture, PAGE - used)
    for i, picture in pictured.items():
        drawn[i] = draw_card(cards[i], picture, names, colors, output_dir)
    said = [f"{len(cards):,} picture{'' if len(cards) == 1 else 's'}"]
    if len(drawn) < len(cards):
        said.append(f"the {len(drawn):,} least sure are here, predictions.csv has all")
    if len(pictured) < len(drawn):
        said.append(f"{len(pictured):,} of them, the least sure, are shown, the others by name")
    words = "Confidence is how probable the net finds the class that it gives a pixel, on average."
    top = element("header", element("h1", "Predictions"), element("p", "; ".join(said) + "."))
    parts = [
        top,
        element("p", words, class_="note"),
        color_keys(names, colors),
        tools(names, any(card.uncertainty is not None for card in cards)),
        element("ul", [drawn[i] for i in sorted(drawn)], class_="cards", id="cards"),
    ]
    return page(MAKER, f"Predictions: {said[0]}", "inference.js", parts)


def write_inference_page(
    cards: Sequence[Card], shots: Shots, names: Sequence[str], output_dir: Path
) -> None:
    with drawing(output_dir / "index.html", "predictions.csv has the figures") as path:
        find_missing(cards, shots, output_dir)
        text = inference_page(cards, shots, names, output_dir)
        print(f"all of them on one page: {put_page(path, MAKER, text)}")
