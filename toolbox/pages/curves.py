"""A run's curves as SVG: training and validation against the step, the best step marked."""

import math
from collections.abc import Sequence
from itertools import chain

from toolbox.pages.markup import Html, element

WIDTH, HEIGHT = 420, 250  # of a drawing; the page enlarges it
LEFT, RIGHT, TOP, BOTTOM = 44, 24, 12, 34  # margins
LINES = {"train": "training", "val": "validation"}

Points = list[tuple[float, float]]


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers from low or less to high or more."""
    span = max(high - low, 1e-9)
    power = 10 ** math.floor(math.log10(span / wanted))
    step = next(power * times for times in (1, 2, 5, 10) if power * times * wanted >= span)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def points_of(history: Sequence[dict], key: str) -> Points:
    """Steps and values, without what is no number."""
    return [(row["step"], row[key]) for row in history if math.isfinite(row[key])]


class Axes:
    """Where steps and values lie in a drawing."""

    def __init__(self, points: Points):
        steps, values = [step for step, _ in points], [value for _, value in points]
        self.last = max(steps)
        self.steps = [step for step in ticks(0, self.last) if step <= 0.87 * self.last]
        self.steps.append(self.last)
        self.values = ticks(min(values), max(values))

    def x(self, step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * step / self.last, 1)

    def y(self, value: float) -> float:
        low, high = self.values[0], self.values[-1]
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low), 1)

    def grid(self) -> list[Html]:
        parts = []
        for value in self.values:
            y = self.y(value)
            parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
            parts.append(element("text", f"{value:g}", x=LEFT - 6, y=y + 4, class_="end"))
        for step in self.steps:
            middle = {"x": self.x(step), "y": HEIGHT - 18, "class_": "middle"}
            parts.append(element("text", f"{step:,.0f}", **middle))
        foot = {"x": (LEFT + WIDTH - RIGHT) / 2, "y": HEIGHT - 4, "class_": "middle"}
        return [*parts, element("text", "step", **foot)]


def line_of(axes: Axes, points: Points, split: str) -> list[Html]:
    """A split's line, with a dot for each evaluation that says its figures."""
    corners = " ".join(f"{axes.x(step)},{axes.y(value)}" for step, value in points)
    parts = [element("polyline", points=corners, class_=f"line {split}")]
    for step, value in points:
        words = element("title", f"{LINES[split]}, step {step:,}: {value:.3f}")
        place = {"cx": axes.x(step), "cy": axes.y(value), "r": 3, "class_": f"dot {split}"}
        parts.append(element("circle", words, **place))
    return parts


def curve(history: Sequence[dict], kind: str, title: str, best: int) -> Html:
    """One drawing with its title; best is the step whose weights are kept."""
    lines = {split: points_of(history, f"{split}_{kind}") for split in LINES}
    every = list(chain.from_iterable(lines.values()))
    if not every:
        return element("p", f"{title}: no evaluation gave a number.")
    axes = Axes(every)
    x = axes.x(best)
    parts = axes.grid()
    parts.append(element("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, class_="best"))
    ends = []
    for split, points in lines.items():
        parts += line_of(axes, points, split)
        if points:
            ends.append(f"{LINES[split]} from {points[0][1]:.3f} to {points[-1][1]:.3f}")
    words = f"{title} against the step: {'; '.join(ends)}; kept: step {best}"
    drawn = element(
        "svg", parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=words, class_="curve"
    )
    return element("figure", element("figcaption", title), drawn)


def line_keys(best: int) -> Html:
    """Which line is whose."""
    keys = [
        element("span", element("i", class_=f"key {split}"), f" {name} ")
        for split, name in LINES.items()
    ]
    kept = element("span", element("i", class_="key best"), f" kept: step {best:,}")
    return element("p", keys, kept, class_="keys")
