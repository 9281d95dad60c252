"""What stands in a mask's pixels, and what it means: class ids, other numbers, colours."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

IGNORE = 255  # a pixel without a class: no loss, no metric
COLOR = 1 << 24  # marks a pixel that holds a colour: ids and colours find their class in one table


class Table(NamedTuple):
    """The classes in the order of their ids, and what a mask's pixels mean.

    meaning leads from a value, or COLOR | rgb, to a class id or IGNORE. has_values: the table says
    which numbers stand in masks; lists_ignore: it, not only custom, says what is ignored.
    """

    names: list[str]
    colors: list[tuple[int, int, int]]
    meaning: dict[int, int]
    has_values: bool = False
    lists_ignore: bool = True

    def described(self) -> list[dict]:
        """The classes as a checkpoint holds them."""
        pairs = zip(self.names, self.colors)
        return [{"name": name, "color": list(color)} for name, color in pairs]


def color_key(color: Sequence[int]) -> int:
    red, green, blue = color
    return COLOR | red << 16 | green << 8 | blue


def color_of(value: int) -> tuple[int, int, int]:
    """The colour of a mask's pixel; a grey file's value is its grey."""
    if value >= COLOR:
        return value >> 16 & 255, value >> 8 & 255, value & 255
    return value, value, value


def in_words(value: int) -> str:
    return f"colour {color_of(value)}" if value >= COLOR else str(value)


def describe_values(values: Counter) -> str:
    """Mask values as a person writes them, with their pixel counts, the commonest first."""
    shown = []
    for value, count in values.most_common(8):
        shown.append(f"{in_words(value)} ({count:,} pixels)")
    more = f" and {len(values) - 8} more" if len(values) > 8 else ""
    return ", ".join(shown) + more
