"""Which pairs are trained on, which choose the best weights, and which judge them."""

import itertools
from collections.abc import Sequence

from toolbox.errors import InputError
from toolbox.sources.base import SPLITS, Pair

import numpy as np


def group_rows(pairs: Sequence[Pair], rows: Sequence[int]) -> list[list[int]]:
    """Rows that stay together; a pair without a group is one by itself."""
    groups: dict[str, list[int]] = {}
    for row in rows:
        groups.setdefault(pairs[row].group or str(row), []).append(row)
    return list(groups.values())


def split_pairs(pairs: Sequence[Pair], seed: int) -> dict[str, list[int]]:
    """The owner's splits where there are any, else 70/15/15 by seed; a group is never taken apart.

    Where the owner has no val, 15 % of train become it: the best weights are not chosen by the
    pictures that judge them.
    """
    splits = {
        split: [row for row, pair in enumerate(pairs) if pair.split == split] for split in SPLITS
    }
    has_owner = any(pair.split for pair in pairs)
    if has_owner and not splits["train"]:
        present = [split for split in SPLITS if splits[split]]
        raise InputError(f"no pairs to train on, only {', '.join(present)}; expected some in train")
    groups = group_rows(pairs, splits["train"] or range(len(pairs)))
    if len(groups) < 2 and not splits["val"]:
        raise InputError(
            f"{len(groups)} pair of image and mask found to train on; expected at least 2, one of "
            "them to judge by"
        )
    if not splits["val"]:
        drawn = [groups[i] for i in np.random.default_rng(seed).permutation(len(groups))]
        held_out = max(1, round(0.15 * len(groups)))
        # The owner's test stays; of two groups none is left for one.
        rest = held_out if has_owner or len(groups) == 2 else 2 * held_out
        parts = {"train": drawn[rest:], "val": drawn[:held_out], "test": drawn[held_out:rest]}
        for split, chosen in parts.items():
            if chosen:
                splits[split] = sorted(itertools.chain(*chosen))
    return {split: rows for split, rows in splits.items() if rows}


# ---- folds ----


def unsplit(pairs: Sequence[Pair]) -> dict[str, list[int]]:
    """All pairs that are shared out to folds, and the owner's test."""
    splits: dict[str, list[int]] = {"folds": [], "test": []}
    for row, pair in enumerate(pairs):
        splits["test" if pair.split == "test" else "folds"].append(row)
    return {split: rows for split, rows in splits.items() if rows}


def units_of(pairs: Sequence[Pair], rows: Sequence[int], digests: Sequence[int]) -> list[list[int]]:
    """Rows that stay in one fold: those of a group, or without groups pictures that are the
    same."""
    units: dict[object, list[int]] = {}
    for row in rows:
        units.setdefault(pairs[row].group or int(digests[row]), []).append(row)
    return list(units.values())


def joined_rows(units: Sequence[Sequence[int]]) -> list[int]:
    return sorted(itertools.chain(*units))


def deal(units: Sequence[list[int]], folds: int, seed: int) -> list[list[list[int]]]:
    """Units to as many folds, in an order by seed, the large ones first: each goes where the
    fewest pictures are."""
    order = np.random.default_rng((seed, folds)).permutation(len(units))
    drawn = sorted((units[i] for i in order), key=len, reverse=True)
    parts: list[list[list[int]]] = [[] for _ in range(folds)]
    for unit in drawn:
        smallest = min(parts, key=lambda part: sum(map(len, part)))
        smallest.append(unit)
    return parts


def fold_splits(
    pairs: Sequence[Pair], digests: Sequence[int], folds: int, seed: int
) -> list[dict[str, list[int]]]:
    """The splits of each fold: the part that judges is called fold, and no picture is in two of
    them. Of the rest 15 % choose the best weights, whole groups where there are three or more. The
    owner's test is trained on in none, and each fold is judged on it too."""
    whole = unsplit(pairs)
    pool, test = whole.get("folds", []), whole.get("test", [])
    units = units_of(pairs, pool, digests)
    parts = deal(units, folds, seed)
    most = max(sum(map(len, part)) for part in parts)
    if len(units) < folds or len(pool) - most < 2:
        kind = "groups of pictures" if any(pairs[row].group for row in pool) else "pictures"
        raise InputError(
            f"folds is {folds}, and there are {len(units)} {kind} to share out; expected one for "
            "each fold, and two pictures beside any fold to train on and to choose by: set folds "
            "to fewer, or to 0"
        )
    every = []
    for number, part in enumerate(parts):
        rest = list(itertools.chain.from_iterable(other for other in parts if other is not part))
        if len(rest) < 3:
            rest = [[row] for row in joined_rows(rest)]
        order = np.random.default_rng((seed, folds, number)).permutation(len(rest))
        drawn = [rest[i] for i in order]
        chosen = max(1, round(0.15 * len(drawn)))
        splits = {"train": drawn[chosen:], "val": drawn[:chosen], "test": [test], "fold": part}
        rows_of = {split: joined_rows(units) for split, units in splits.items()}
        every.append({split: rows for split, rows in rows_of.items() if rows})
    return every
