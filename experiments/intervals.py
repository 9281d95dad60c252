"""Does the 95 % interval of mean IoU hold the truth? A population of pictures is made up, with rare
classes and good and bad pictures; splits are drawn from it; and it is counted in how many of them
the interval holds the mean IoU of the whole population.

    python experiments/intervals.py [splits=200]

For each population and each number of pictures in a split it prints how often the interval holds
the population's mean IoU; how often that over the classes that the split has; how often plain
percentiles of the same draws hold the former; and how wide the interval is on average. Then,
for splits of 75 pictures, how far a class's IoU strays from the truth (root of the mean square) by
the number of pictures that have it.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from toolbox.intervals import RESAMPLES, mean_iou_interval, scores_and_spreads
from toolbox.settings import run_script

splits = 200  # drawn from each population, of each size

PICTURES = (5, 10, 20, 30, 75)
SIZE = 2000  # pictures in a population
PIXELS = 10_000  # of a picture


class Kind(NamedTuple):
    """What a population's classes are like, each with its number in every list."""

    areas: list[float]  # in a picture that has it, to one another
    chances: list[float]  # that a picture has it
    recalls: list[float]  # the share of its pixels that is found, in the middling picture
    large: float = 0  # the share of pictures that are twenty times as large as the others


STREETS = [3, 2, 2, 2, 0.5, 0.1, 0.1, 0.3]
KINDS = {
    "two classes": Kind([0.8, 0.2], [1, 1], [0.97, 0.8]),
    "two classes, half of the pictures empty": Kind([0.9, 0.1], [1, 0.5], [0.98, 0.7]),
    "two classes, one picture of twenty is twenty times as large": Kind(
        [0.8, 0.2], [1, 1], [0.97, 0.8], large=0.05
    ),
    "eight classes, down to one picture in ten": Kind(
        STREETS,
        [1, 0.95, 0.9, 0.9, 0.7, 0.4, 0.25, 0.1],
        [0.95, 0.9, 0.85, 0.92, 0.7, 0.5, 0.45, 0.6],
    ),
    "eight classes, down to one picture in thirty": Kind(
        STREETS,
        [1, 0.95, 0.9, 0.9, 0.7, 0.2, 0.08, 0.03],
        [0.95, 0.9, 0.85, 0.92, 0.7, 0.5, 0.2, 0.4],
    ),
    "twenty-one classes, twenty of them in one picture of eight": Kind(
        [3, *[0.5] * 20], [1, *[0.12] * 20], [0.95, *np.linspace(0.3, 0.85, 20)]
    ),
}


def make_population(kind: Kind, seed: int = 1) -> np.ndarray:
    """Counts (SIZE, 3, K): pixels that are right, true and predicted of each class."""
    rng = np.random.default_rng(seed)
    count = len(kind.areas)
    has = rng.random((SIZE, count)) < kind.chances
    has[:, 0] = True
    areas = rng.lognormal(0, 0.9, (SIZE, count)) * kind.areas * has
    shares = areas / areas.sum(axis=1, keepdims=True)
    true = np.round(shares * PIXELS)
    # A picture is hard or easy as a whole, and each of its classes besides.
    recalls = np.array(kind.recalls)
    odds = np.log(recalls / (1 - recalls))
    odds = odds + rng.normal(0, 0.6, (SIZE, 1)) + rng.normal(0, 0.9, (SIZE, count))
    hits = np.round(true / (1 + np.exp(-odds)))
    predicted = hits.copy()
    for k in range(count):  # what is missed goes to the other classes, the small ones too
        taken = np.sqrt(shares) + 0.02
        taken[:, k] = 0
        taken /= taken.sum(axis=1, keepdims=True)
        predicted += (true - hits)[:, [k]] * taken
    counts = np.stack([hits, true, predicted], axis=1)
    counts[rng.random(SIZE) < kind.large] *= 20
    return counts


def class_scores(counts: np.ndarray) -> np.ndarray:
    """Each class's IoU (K,), NaN where it is absent."""
    hits, true, predicted = counts.sum(axis=0)
    iou = hits / np.maximum(true + predicted - hits, 1)
    return np.where(true > 0, iou, np.nan)


def percentiles(counts: np.ndarray, resamples: int) -> np.ndarray:
    """The plain interval, for comparison."""
    count = len(counts)
    rng = np.random.default_rng(0)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)
    return np.quantile(scores_and_spreads(weights, counts)[0], [0.025, 0.975])


def measure(population: np.ndarray, pictures: int, drawn: int, resamples: int) -> dict[str, float]:
    """How often the intervals of so many splits hold the truth, and how wide they are."""
    rng = np.random.default_rng(pictures)
    truths = class_scores(population)
    found = defaultdict(list)
    for _ in range(drawn):
        split = population[rng.integers(0, len(population), pictures)]
        low, high = mean_iou_interval(split, [""] * pictures, resamples)
        plain_low, plain_high = percentiles(split, resamples)
        of_split = truths[split[:, 1].any(axis=0)].mean()
        found["holds"].append(low <= truths.mean() <= high)
        found["holds, classes there"].append(low <= of_split <= high)
        found["percentiles hold"].append(plain_low <= truths.mean() <= plain_high)
        found["width"].append(high - low)
    return {name: float(np.mean(values)) for name, values in found.items()}


def strays(population: np.ndarray, pictures: int, drawn: int) -> dict[int, float]:
    """By the number of pictures of a split that have a class: how far its IoU is from the truth."""
    rng = np.random.default_rng(pictures)
    truths = class_scores(population)
    squares = defaultdict(list)
    for _ in range(drawn):
        split = population[rng.integers(0, len(population), pictures)]
        having = (split[:, 1] > 0).sum(axis=0)
        for number, error in zip(having.tolist(), class_scores(split) - truths):
            if number:
                squares[number].append(error**2)
    return {number: float(np.sqrt(np.mean(squares[number]))) for number in sorted(squares)}


def main() -> None:
    titles = ("holds", "holds, classes there", "percentiles hold", "width")
    print("| population | pictures | " + " | ".join(titles) + " |\n| --- " + "| --- " * 5 + "|")
    astray = defaultdict(list)
    for name, kind in KINDS.items():
        population = make_population(kind)
        for pictures in PICTURES:
            found = measure(population, pictures, splits, RESAMPLES)
            cells = [f"{found[title]:.1%}" for title in titles[:-1]] + [f"{found['width']:.2f}"]
            print(f"| {name} | {pictures} | {' | '.join(cells)} |", flush=True)
        for number, error in strays(population, 75, splits).items():
            astray[number].append(error)
    for first, last in ((1, 2), (3, 4), (5, 9), (10, 19), (20, 39), (40, 75)):
        errors = [error for n in range(first, last + 1) for error in astray[n]]
        print(f"a class in {first} to {last} pictures strays by {np.mean(errors):.2f}")


if __name__ == "__main__":
    run_script(globals(), main)
