"""The _classes.csv that Roboflow writes beside pictures and their masks: Pixel Value,Class."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from toolbox.census import Census
from toolbox.errors import InputError
from toolbox.offers import made_up
from toolbox.tables import read_text
from toolbox.values import COLOR, IGNORE, Table, describe_values

LISTED = "_classes.csv"


def read_names(path: Path) -> dict[int, str]:
    """The name of each number in masks; nothing where the list is of another kind."""
    found: dict[int, str] = {}
    head, *rows = csv.reader(io.StringIO(read_text(path) + "\n", newline=""))
    if not head or head[0].strip().lower() != "pixel value":
        return found
    for row in rows:
        texts = [text.strip() for text in row]
        if not any(texts):
            continue
        if len(texts) < 2 or not texts[0].isdecimal() or not texts[1]:
            raise InputError(
                f"{path} has the row {','.join(row)!r}; expected a number and a name, such as "
                "1,cat, below Pixel Value,Class"
            )
        found[int(texts[0])] = ", ".join(filter(None, texts[1:]))  # a name may have commas
    return found


def names_in(folders: Iterable[Path]) -> dict[int, str]:
    """What these folders' lists say, all the same; nothing where there is none."""
    paths = [folder / LISTED for folder in folders if os.path.isfile(folder / LISTED)]
    lists = [read_names(path) for path in paths]
    for path, names in zip(paths, lists):
        if names != lists[0]:
            raise InputError(f"{path} has other classes than {paths[0]}; write both alike")
    return lists[0] if lists else {}


def named_table(root: Path, names: dict[int, str], census: Census, notes: list[str]) -> Table:
    """The classes of such a list that have pixels, in the order of their numbers."""
    unknown = {value: census.values[value] for value in census.values if value not in names}
    unknown.pop(IGNORE, None)
    if unknown:
        raise InputError(
            f"the masks in {root} hold {describe_values(Counter(unknown))}, which {LISTED} does "
            "not name; add them there"
        )
    there = [value for value in sorted(names) if value in census.values and value < COLOR]
    empty = [names[value] for value in names if value not in there]
    if empty:
        notes.append(f"{', '.join(empty)} in {LISTED} have no pixel, and are left out")
    chosen = [names[value] for value in there]
    if len(there) < 2 or len({*chosen}) < len(chosen):
        raise InputError(
            f"{LISTED} in {root} names {', '.join(chosen)} of what the masks hold; expected two "
            "classes or more, each with a name of its own"
        )
    notes.append(f"the classes are those of {LISTED}")
    meaning = {IGNORE: IGNORE, **{value: i for i, value in enumerate(there)}}
    colors = [made_up(i) for i in range(len(there))]
    return Table(chosen, colors, meaning, has_values=True)
