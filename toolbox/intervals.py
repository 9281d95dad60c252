"""How sure a score is: a 95 % interval of mean IoU from the pictures that were judged, drawn anew
many times with replacement (the bootstrap, Efron, 1979)."""

import math
from collections.abc import Sequence

import numpy as np

LEVEL = 0.95
RESAMPLES = 2000
LEAST = 5  # pictures or groups; of fewer the interval would hold the truth too seldom
MOST = 1000  # of more, heaps are drawn: the interval is the same but for chance, and takes no time
FEW = 10  # pictures with a class; in fewer, its IoU strays from the truth by 0.07 to 0.14
COUNTED = ("hits", "true", "predicted")  # pixels of each class, as a picture's scores have them
FLOOR = 1 / 3  # of the spread of all draws: what a draw expects at least
EDGE = 1e-6  # a score nearer to 0 or 1 than this has log odds without bounds


def by_group(counts: np.ndarray, groups: Sequence[str]) -> np.ndarray:
    """Counts (N, 3, K) of pictures, added up over those of one group; "" is a group of its own."""
    named = [group or f"\0{i}" for i, group in enumerate(groups)]
    numbers = np.unique(named, return_inverse=True)[1]
    summed = np.zeros((numbers.max() + 1, *counts.shape[1:]))
    np.add.at(summed, numbers, counts)
    return summed


def in_heaps(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Counts of at most MOST heaps, into which pictures fall by chance."""
    heaps = [str(number % MOST) for number in rng.permutation(len(counts))]
    return by_group(counts, heaps)


def scores_and_spreads(weights: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For draws in which picture n of N counts weights (R, N) times: mean IoU over the classes that
    a draw has, (R,), and the standard deviation that the draw alone would expect of it, (R,).

    That is the root of the sum of squares of what each picture adds: the derivative of mean IoU by
    its weight (the infinitesimal jackknife).
    """
    hits, true, predicted = counts.transpose(1, 0, 2)  # (N, K) each
    union = true + predicted - hits
    all_hits, all_union = weights @ hits, weights @ union  # (R, K)
    is_there = weights @ true > 0
    classes = is_there.sum(axis=1, keepdims=True).clip(min=1)
    divisor = np.where(is_there, all_union, 1)
    iou = np.where(is_there, all_hits / divisor, 0) / classes
    by_hits = np.where(is_there, 1 / divisor, 0) / classes
    added = by_hits @ hits.T - (iou / divisor) @ union.T  # (R, N)
    return iou.sum(axis=1), np.sqrt((weights * added**2).sum(axis=1))


def log_odds(score: np.ndarray) -> np.ndarray:
    score = np.clip(score, EDGE, 1 - EDGE)
    return np.log(score / (1 - score))


def mean_iou_interval(
    counts: np.ndarray, groups: Sequence[str], resamples: int = RESAMPLES
) -> list[float] | None:
    """The interval of pictures' counts (N, 3, K): of each picture the pixels of each class that
    were right, are true and were predicted. Pictures of a group are drawn together. None where
    there are too few of either.

    Plain percentiles of the draws hold the truth too seldom where pictures are few or classes rare
    (experiments/intervals.py). So each draw's distance from the score is taken in units of the
    spread that the draw itself expects (the bootstrap-t), and on the scale of log odds, which has
    no ends at 0 and 1.
    """
    rng = np.random.default_rng(0)
    units = by_group(counts, groups) if len(counts) else counts
    if len(units) > MOST:
        units = in_heaps(units, rng)
    count = len(units)
    if count < LEAST or not counts[:, 1].any():
        return None
    weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples).astype(float)
    score = scores_and_spreads(np.ones((1, count)), units)[0][0]
    drawn, spreads = scores_and_spreads(weights, units)
    middle, odds = log_odds(score), log_odds(drawn)
    spreads = spreads / np.maximum(drawn * (1 - drawn), EDGE)  # on the scale of log odds
    # Few pictures differ less than all that there are: by more than n / (n - 1), as was tried.
    spread = math.sqrt(np.mean((odds - middle) ** 2)) * count / (count - 2)
    if spread < EDGE:  # all pictures are alike
        return [float(score), float(score)]
    # A draw without the one picture that weighs most would expect hardly any, and be too far off.
    distances = (odds - middle) / np.maximum(spreads, FLOOR * spread)
    farthest = np.quantile(distances, [(1 + LEVEL) / 2, (1 - LEVEL) / 2])
    edges = np.clip(middle - farthest * spread, -700, 700)
    low, high = 1 / (1 + np.exp(-edges))
    return [float(min(low, score)), float(max(high, score))]


def add_sureness(report: dict, pictures: Sequence[dict], groups: Sequence[str]) -> None:
    """Put into a split's report how many pictures it stands on: the interval, and which classes are
    in too few of them to believe their scores; pictures are each one's scores."""
    counts = np.array([[one[key].numpy() for key in COUNTED] for one in pictures])
    report["pictures"] = len(pictures)
    report["mean_iou_interval"] = mean_iou_interval(counts, groups)
    having = (counts[:, 1] > 0).sum(axis=0).tolist()
    for entry, number in zip(report["classes"], having):
        entry["pictures"] = number
        entry["few"] = number < FEW
