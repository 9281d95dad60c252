"""Whether masks were smoothed: saved as JPEG once, or resized with averaging.

What they hold then is a few values that fill areas and many that lie beside these, or on the edges
between them, in few pixels. A class, however rare, fills areas too.
"""

from collections import Counter

from toolbox.values import COLOR, color_of

import numpy as np

NEAR = 8  # what saving as JPEG at a high quality makes of a value lies so near
APART = 16  # values that were drawn on purpose, and then smoothed, lie so far apart or farther
HOLLOW = 0.15  # of its pixels begin a square of 2×2, at most, where a value fills no area
RARE, FEW = 0.03, 0.01  # of all pixels
MANY = 40  # values; classes are mostly fewer
MUCH = 10  # of what fills no area


def distances(values: list[int]) -> np.ndarray:
    """Between each two values, by their most different channel (N, N); numbers and colours are
    far from each other."""
    colors = np.array([color_of(value) for value in values])
    apart = np.abs(colors[:, None] - colors[None]).max(axis=2)
    is_color = np.array(values) >= COLOR
    return np.where(is_color[:, None] == is_color[None], apart, COLOR)


def is_smoothed(values: Counter, solid: Counter) -> bool:
    """values are the pixels of each value in all masks; solid those that begin a square of 2×2."""
    names = sorted(values)
    if len(names) < 3:
        return False
    counts = np.array([values[name] for name in names])
    filled = np.array([solid[name] for name in names])
    is_hollow = filled <= HOLLOW * counts
    if len(names) > MANY:
        return len(names) == 256 or is_hollow.mean() > 0.5
    apart = distances(names)
    is_near = apart <= NEAR
    is_beside = (is_near & (counts[:, None] > counts[None])).any(axis=0)  # what is commoner
    is_edge = is_hollow & (counts < RARE * counts.sum())
    strays = np.flatnonzero(is_beside | is_edge)
    cores = np.setdiff1d(np.arange(len(names)), strays)
    if len(strays) == 0 or filled[strays].sum() > HOLLOW * counts[strays].sum():
        return False  # these fill areas
    if len(cores) < 2:
        return len(strays) >= MUCH and names[-1] >= len(names)  # ids in thin lines run 0, 1, 2, …
    between = apart[np.ix_(cores, cores)][~np.eye(len(cores), dtype=bool)]
    if between.min() < APART:
        return False
    is_around = is_near[np.ix_(cores, strays)]
    are_on_edges = (~is_around.any(axis=0)).sum() >= 3
    if is_around.any(axis=1).sum() >= 2 or are_on_edges:
        return True
    # Around one of two values alone: around white, to which no ids run up, or hardly any.
    is_rest = counts[strays].sum() < FEW * counts.sum()
    is_white = min(color_of(names[cores[-1]])) > 255 - APART and is_around[-1].any()
    return bool(len(cores) == 2 and is_around.any() and (is_white or is_rest and len(strays) == 1))


def are_one_in_a_jpeg(values: Counter) -> bool:
    """Whether two values lie so close that saving as JPEG may have made two of one."""
    return len(values) == 2 and distances(sorted(values)).max() <= NEAR


def is_white_with_specks(values: Counter, solid: Counter) -> bool:
    """Whether 1, beside 0 and 255, is what saving as JPEG made of a few 0, and not the object."""
    if set(values) != {0, 1, 255}:
        return False
    return solid[1] <= HOLLOW * values[1] and values[1] < values[255] / 4
