"""What the masks of a folder mean where no classes.csv says so: background and object, if they
hold two values; else what is wrong with them, or a classes.csv to start from."""

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from toolbox.census import Census
from toolbox.errors import InputError
from toolbox.masks import SMOOTHED
from toolbox.smoothing import APART, are_one_in_a_jpeg, is_smoothed, is_white_with_specks
from toolbox.tables import read_text
from toolbox.values import COLOR, IGNORE, Table, color_key, color_of, describe_values, in_words

OBJECT = [(0, 0, 0), (255, 190, 0)]  # the colours of background and object
MOST = 254  # classes: 255 is no id
COLUMNS = "id,name,red,green,blue"


def twins_of(values: Counter) -> dict[int, int]:
    """Greys of coloured masks that stand as numbers in others: these are the same, saved in two
    ways."""
    numbers = [value for value in values if 0 <= value < 256]
    greys = {color_key((number,) * 3): number for number in numbers}
    return {color: number for color, number in greys.items() if color in values}


def check_palettes(root: Path, census: Census) -> None:
    """Palettes that number the same colours in different ways: the colours are the classes."""
    first: dict[int, tuple[int, str]] = {}
    for value, color, path in census.shown:
        other, where = first.setdefault(color, (value, path))
        if other != value:
            raise InputError(
                f"the masks in {root} are palette pictures that number their colours differently: "
                f"{color_of(color)} is {other} in {where}, and {value} in {path}; save them as RGB "
                "if the colours are the classes, as grey pictures if the numbers are"
            )


def check_specks(root: Path, census: Census) -> None:
    """Of 0, 1 and 255 the last is ignored, unless 1 is there by mistake."""
    if is_white_with_specks(census.values, census.solid):
        raise InputError(
            f"the masks in {root} hold {describe_values(census.values)}, and 1 fills no area; "
            f"{SMOOTHED}. If 1 is an object all the same, say so in {root / 'classes.csv'}, with a "
            "column value"
        )


def check_alike(root: Path, census: Census) -> None:
    """Masks of 0 and 1 beside masks of 0 and 255: 255 may be their 1, or ignored."""
    if {*census.values} == {0, 1, 255} and not census.both:
        raise InputError(
            f"some masks in {root} hold 0 and 1, others 0 and 255, none both; if 1 and 255 are the "
            "same (masks of 1 bit and of 8 do so), save all alike; if 255 means 'ignore', say so "
            f"in {root / 'classes.csv'}:\n{COLUMNS}\n0,background,0,0,0\n1,object,255,190,0"
        )


def background_first(value: int, shown: dict[int, int]) -> tuple[bool, bool, int]:
    """By what to sort, the likelier background first: what looks black, then what looks white,
    where masks have colours; else the lower number."""
    color = value if value >= COLOR else shown.get(value)
    return color != color_key((0, 0, 0)), color != color_key((255, 255, 255)), value


def check_drawn(root: Path, census: Census) -> None:
    """Masks that hold nothing to tell apart, or what was not drawn but came of saving."""
    values = census.values
    found = f"the masks in {root} hold {len(values)} values: {describe_values(values)}"
    if len(values) - len(twins_of(values)) == 1:
        raise InputError(
            f"all masks in {root} hold only {in_words(min(values))}: there is nothing to tell "
            "apart; expected two values or more"
        )
    is_jpeg = census.jpegs and (len(values) > 2 or are_one_in_a_jpeg(values))
    if is_jpeg or is_smoothed(values, census.solid):
        raise InputError(f"{found}; {SMOOTHED}")
    if min(values) < 0 and len(values) > 2:
        raise InputError(f"{found}; expected whole numbers from 0 in masks of three values or more")
    if len(values) > MOST:
        raise InputError(
            f"{found}; expected at most {MOST} classes: a mask says what each pixel is, not which "
            "one of many objects it belongs to"
        )


def guessed_table(root: Path, census: Census, notes: list[str]) -> Table:
    """Two values mean background and object; 255 beside 0 and 1 is ignore. For others a table is
    asked for."""
    check_palettes(root, census)
    check_drawn(root, census)
    check_specks(root, census)
    check_alike(root, census)
    values, twins = census.values, twins_of(census.values)
    ignored = {255: IGNORE} if set(values) == {0, 1, 255} else {}
    classes = sorted(values.keys() - ignored.keys() - twins.keys())
    if len(classes) != 2:
        raise InputError(asked(root, census))
    shown = {value: color for value, color, _ in census.shown}
    background, thing = sorted(classes, key=lambda value: background_first(value, shown))
    notes.append(f"background is {in_words(background)}, the object {in_words(thing)}")
    meaning = {background: 0, thing: 1, **ignored}
    meaning |= {color: meaning[number] for color, number in twins.items()}
    return Table(["background", "object"], OBJECT, meaning, lists_ignore=False)


# ---- a classes.csv to start from ----


def is_ignore(numbers: Sequence[int]) -> bool:
    """Whether 255, beside these numbers, is likely what nobody labelled: if they are ids, counted
    from 0 or 1 with few gaps."""
    return max(numbers, default=IGNORE) <= 2 * len(numbers)


def made_up(i: int) -> tuple[int, int, int]:
    return i * 67 % 256, i * 131 % 256, (i * 197 + i // 256) % 256


def colors_for(numbers: Sequence[int], census: Census) -> dict[int, tuple[int, int, int]]:
    """A colour for each number: its palette's, where masks agree; its grey, where greys can be
    told apart by eye; one that no mask has."""
    palette = {value: color_of(color) for value, color, _ in census.shown}
    agree = len({*palette.values()}) == len(palette) == len(census.shown)
    if agree and not census.shared and palette.keys() >= {*numbers}:
        return palette
    taken = {value for value in census.values if value >= COLOR} | {*census.shared}
    taken |= {color for _, color, _ in census.shown}
    steps = [after - before for before, after in zip(numbers, numbers[1:])]
    if not taken and numbers[-1] < 256 and min(steps, default=0) >= APART:
        return {number: color_of(number) for number in numbers}
    free = (color for color in map(made_up, itertools.count()) if color_key(color) not in taken)
    return dict(zip(numbers, free))


def rows_for(census: Census) -> tuple[list[str], str]:
    """The rows of a table that knows every value, and what to know about 255."""
    values, twins = census.values, twins_of(census.values)
    numbers = sorted(value for value in values if value < COLOR)
    colors = sorted(value for value in values if value >= COLOR and value not in twins)
    if not numbers:
        rows = [(i, *color_of(color)) for i, color in enumerate(colors)]
        return [f"{i},class{i},{red},{green},{blue}" for i, red, green, blue in rows], ""
    chosen = colors_for(numbers, census)
    chosen |= {number: color_of(color) for color, number in twins.items()}
    classes = [number for number in numbers if number != IGNORE]
    has_white = IGNORE in numbers  # which comes last: it may be taken out again
    listed = [*classes, IGNORE] if has_white else classes
    lines = []
    for i, number in enumerate([*listed, *colors]):
        red, green, blue = color_of(number) if number >= COLOR else chosen[number]
        value = "" if number >= COLOR else number
        lines.append(f"{i},class{i},{red},{green},{blue},{value}")
    if has_white and not colors and is_ignore(classes):
        share = values[IGNORE] / values.total()
        add = lines.pop()
        return (
            lines,
            f"255, {share:.1%} of the pixels, is taken as 'ignore'; if it is an object, "
            + (f"add the row {add}"),
        )
    if has_white:
        return lines, "255 is taken for a class; if it means 'ignore', give its row the id 255"
    is_plain = classes == list(range(len(classes))) and not colors
    has_hue = any(len({*chosen[number]}) > 1 for number in numbers)
    if is_plain and has_hue:  # ids, and colours that are not taken for greys in masks
        return [line.rpartition(",")[0] for line in lines], ""
    return lines, ""


def remark_on_gaps(rows: Sequence[str]) -> str:
    """Why ids are others than the numbers in the masks, where they are."""
    cells = [row.split(",") for row in rows]
    moved = [row for row in cells if row[-1] and row[0] != row[-1]]
    if not moved:
        return ""
    i, value = moved[0][0], moved[0][-1]
    return (
        " Ids run 0, 1, 2, … without a gap, and the numbers in the masks do not: these stand under "
        f"value, {value} for the id {i}."
    )


def names_beside(root: Path) -> dict[tuple[str, ...], str]:
    """The names that label_colors.txt has for colours, as CamVid and CVAT's exports lay it there:
    red green blue name, a line each."""
    path = root / "label_colors.txt"
    names = {}
    if path.is_file():
        for line in read_text(path).splitlines():
            words = line.replace(",", " ").split(None, 3)
            if len(words) == 4:
                names[tuple(words[:3])] = " ".join(words[3].split())
        names.setdefault(("0", "0", "0"), "background")
    return names


def with_names(rows: Sequence[str], names: dict[tuple[str, ...], str]) -> list[str]:
    """The rows of a table, with the names that are known of their colours."""
    named = []
    for row in rows:
        i, made_up_name, *color = row.split(",")
        name = names.get(tuple(color[:3]), made_up_name)
        named.append(",".join([i, name, *color]))
    return named


def asked(root: Path, census: Census) -> str:
    """The sentence that asks for a table, and one to begin with."""
    rows, remark = rows_for(census)
    rows = with_names(rows, names_beside(root))
    has_value = rows[0].count(",") > COLUMNS.count(",")
    head = f"{COLUMNS},value" if has_value else COLUMNS
    found = (
        f"the masks in {root} hold {len(census.values)} values: {describe_values(census.values)}"
    )
    table = "\n".join([head, *rows])
    remark = f" {remark}." if remark else ""
    if has_value:
        remark += remark_on_gaps(rows)
    return (
        f"{found}; two values would mean background and object, others need "
        f"{root / 'classes.csv'}.{remark} To start from, with names of your own:\n{table}"
    )
