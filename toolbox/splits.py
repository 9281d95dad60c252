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
