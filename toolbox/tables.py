"""classes.csv: which classes there are, and what stands for them in masks.

id,name,red,green,blue           ids 0, 1, 2, …; rows of id 255 name colours to ignore
id,name,red,green,blue,value     the number that stands in the masks, where that is not the id
"""

import codecs
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from toolbox.errors import InputError
from toolbox.values import COLOR, IGNORE, Table, color_key

COLUMNS = ("id", "name", "red", "green", "blue")
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class Row(NamedTuple):
    """A line of classes.csv; value is None where none is given."""

    id: int
    name: str
    color: tuple[int, int, int]
    value: int | None


def read_text(path: Path) -> str:
    """A table's text, which spreadsheets save in many ways."""
    if not path.is_file():
        raise InputError(f"{path} is no file; expected a table of classes there, or nothing")
    try:
        content = path.read_bytes()
        if content.startswith(UTF_16) or b"\0" in content:
            raise ValueError("UTF-16 or no text")
        return content.decode("utf-8-sig")
    except ValueError as error:
        excels = ", which Excel calls CSV UTF-8 (comma delimited)"
        more = excels if path.suffix.lower() == ".csv" else ""
        raise InputError(f"{path} is not in UTF-8 ({error}); save it as UTF-8{more}") from error
    except OSError as error:
        raise InputError(
            f"{path} can't be read ({error.strerror}); give leave to read it"
        ) from error


def cells(path: Path) -> list[dict[str, str]]:
    """Each row's cells by the names of their columns; blank lines are passed over."""
    text = read_text(path)
    head = text.lstrip().partition("\n")[0]
    delimiter = max(",;\t", key=head.count)  # Excel writes ; or tabs in many countries
    try:
        found = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [row for row in found if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f"{path} can't be understood ({error}); {expected()}") from error
    names = [name.strip().lower() for name in rows[0]] if rows else []
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise InputError(
            f"{path} has no column {', '.join(missing)} in its first line; {expected()}"
        )
    for name in (*COLUMNS, "value"):
        if names.count(name) > 1:
            raise InputError(f"{path} has the column {name} twice; {expected()}")
    for row in rows[1:]:
        if len(row) > len(names) and any(map(str.strip, row[len(names) :])):
            raise InputError(
                f"{path} has more cells than columns in the row {delimiter.join(row)}; put a name "
                f"with a {delimiter!r} in it between quotes"
            )
    return [dict(zip(names, row)) for row in rows[1:]]


def expected() -> str:
    return f"expected UTF-8 text with the columns {','.join(COLUMNS)} and perhaps value"


def whole_number(path: Path, row: dict, name: str, top: int) -> int:
    text = row.get(name, "").strip()
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) <= top):
        where = "" if name == "id" else f" in the row of id {row.get('id', '').strip()}"
        raise InputError(
            f"{path} has the {name} {text!r}{where}; expected a whole number 0 to {top}"
        )
    return int(text)


def read_rows(path: Path) -> list[Row]:
    rows = []
    for row in cells(path):
        number = whole_number(path, row, "id", IGNORE)
        color = [whole_number(path, row, name, 255) for name in COLUMNS[2:]]
        value = None
        if row.get("value", "").strip():
            value = whole_number(path, row, "value", COLOR - 1)
        rows.append(Row(number, row.get("name", "").strip(), tuple(color), value))
    return rows


def check_ids(path: Path, ids: Sequence[int]) -> None:
    """Ids run 0, 1, 2, … with none left out and none twice."""
    expected_ids = "expected 0, 1, 2, … each once (and 255 for what is to be ignored)"
    twice = sorted({i for i in ids if ids.count(i) > 1})
    if twice:
        raise InputError(
            f"{path} has the id {twice[0]} in {ids.count(twice[0])} rows; {expected_ids}"
        )
    missing = sorted({*range(max(ids, default=-1) + 1)} - {*ids})
    if missing or len(ids) < 2:
        shown = f"lacks the id {missing[0]}" if missing else f"has the ids {list(ids)}"
        raise InputError(f"{path} {shown}; {expected_ids}, and two classes or more")


def check_once(path: Path, rows: Sequence[Row], what: str) -> None:
    """No two rows share what tells classes apart."""
    first: dict = {}
    for row in rows:
        thing = getattr(row, what)
        told_by = thing.strip() if what == "name" else thing
        other = first.setdefault(told_by, row)
        if other is not row:
            raise InputError(
                f"{path} gives the {what} {thing} to the ids {other.id} and {row.id}; give each "
                f"its own {what}"
            )


def read_class_table(path: Path) -> Table:
    """The classes of a classes.csv, and what numbers and colours in masks mean."""
    rows = read_rows(path)
    classes = sorted((row for row in rows if row.id != IGNORE), key=lambda row: row.id)
    ignored = [row for row in rows if row.id == IGNORE]
    check_ids(path, [row.id for row in classes])
    for row in classes:
        if not row.name:
            raise InputError(f"{path} gives no name to the id {row.id}; write one")
    check_once(path, classes, "name")
    # A row that ignores a number may have any colour; one without names the colour it ignores.
    colors_only = {row.color: row for row in ignored if row.value is None}
    check_once(path, [*classes, *colors_only.values()], "color")
    valued = [row for row in rows if row.value is not None]
    check_once(path, valued, "value")
    meaning = {IGNORE: IGNORE}
    if valued:
        meaning |= {row.value: row.id for row in valued}
    else:
        meaning |= {row.id: row.id for row in classes}
    meaning |= {color_key(row.color): IGNORE for row in ignored}
    meaning |= {color_key(row.color): row.id for row in classes}
    names, colors = [row.name for row in classes], [row.color for row in classes]
    return Table(names, colors, meaning, bool(valued), bool(ignored))
