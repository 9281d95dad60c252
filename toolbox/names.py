"""Why pictures and masks do not find each other by name: what all of one kind begin or end with,
or how the same names are written otherwise."""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

LONGEST = 24  # characters of a beginning or an ending that are looked at
MANY = 5000  # names are enough to find it by
ENOUGH = 0.5  # of the names that are left over; what explains fewer is chance


def same_case(name: str) -> str:
    return name.casefold()


def same_accents(name: str) -> str:
    """ü is one sign or two, u and its dots, by the system that wrote the name."""
    return unicodedata.normalize("NFC", name)


def same_blanks(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name)


def same_padding(name: str) -> str:
    return re.sub(r"0*(\d+)", r"\1", name)


def same_in_all(name: str) -> str:
    return same_padding(same_blanks(same_case(same_accents(name))))


SPELLINGS = {
    "upper and lower case": same_case,
    "how accents are written (Unicode)": same_accents,
    "blanks, - and _": same_blanks,
    "zeros before numbers": same_padding,
    "case, blanks, accents and zeros before numbers": same_in_all,
}


def affixes(names: Sequence[str]) -> list[tuple[str, str]]:
    """Beginnings and endings that at least half of the names have, as (beginning, ending), one of
    them empty; that there is none comes first."""
    votes: Counter = Counter()
    for name in names:
        for length in range(1, min(LONGEST, len(name) - 1) + 1):
            if not name[length - 1 : length + 1].isdigit():  # else it cuts a number in two
                votes[name[:length], ""] += 1
            if not name[-length - 1 :][:2].isdigit():
                votes["", name[-length:]] += 1
    shared = [affix for affix, count in votes.items() if count >= max(2, ENOUGH * len(names))]
    return [("", ""), *shared]


def having(names: Sequence[str], affix: tuple[str, str]) -> list[str]:
    """The names that begin and end so."""
    first, last = affix
    return [name for name in names if name.startswith(first) and name.endswith(last)]


def without(names: Sequence[str], affix: tuple[str, str]) -> list[str]:
    """What is left of them."""
    first, last = affix
    return [name[len(first) : len(name) - len(last)] for name in having(names, affix)]


def examples(pairs: Sequence[tuple[str, str]]) -> str:
    """Three of the pairs that may be meant."""
    return ", ".join(f"{image} with {mask}" for image, mask in pairs[:3])


def in_words(kind: str, names: Sequence[str], affix: tuple[str, str]) -> str:
    """How many of a kind begin or end so; nothing where no affix is meant."""
    first, last = affix
    if not first and not last:
        return ""
    count = len(without(names, affix))
    of = f"all {count}" if count == len(names) else f"{count} of {len(names)}"
    return f"{of} {kind} begin with {first}" if first else f"{of} {kind} end in {last}"


def letters(affix: tuple[str, str]) -> float:
    """How much is taken off; what stands between it and the rest, such as _, goes with it."""
    return sum(1 if sign.isalnum() else -0.1 for sign in "".join(affix))


def by_affix(images: Sequence[str], masks: Sequence[str]) -> str:
    """A sentence on a beginning or an ending without which the names fit."""
    of_images = {affix: {*without(images[:MANY], affix)} for affix in affixes(images[:MANY])}
    fitting = {}
    for mask_affix in affixes(masks[:MANY]):
        left = {*without(masks[:MANY], mask_affix)}
        for image_affix, stems in of_images.items():
            # The shortest that explain most: p0001_seg may end in 1_seg too.
            taken = letters(mask_affix) + letters(image_affix)
            fitting[image_affix, mask_affix] = len(left & stems) - taken / 1000
    image_affix, mask_affix = max(fitting, key=fitting.get)
    count = len({*without(images, image_affix)} & {*without(masks, mask_affix)})
    if count < max(2, ENOUGH * min(len(images), len(masks))):
        return ""
    found = [in_words("masks", masks, mask_affix), in_words("images", images, image_affix)]
    shown = ""
    if all(any(affix) for affix in (image_affix, mask_affix)):  # else one sees it
        of_masks = dict(zip(without(masks, mask_affix), having(masks, mask_affix)))
        stems = zip(without(images, image_affix), having(images, image_affix))
        both = [(image, of_masks[stem]) for stem, image in stems if stem in of_masks]
        shown = f" ({examples(both)})"
    return (
        f"{' and '.join(filter(None, found))}; without that in their names {count} pairs fit"
        f"{shown}: rename the files so"
    )


def by_spelling(images: Sequence[str], masks: Sequence[str]) -> str:
    """A sentence on what the names differ in, where they are the same but for that."""
    for what, same in SPELLINGS.items():
        count = len({*map(same, images)} & {*map(same, masks)})
        if count and count >= ENOUGH * min(len(images), len(masks)):
            return (
                f"{count} images and masks differ in their names by {what} only; write both alike"
            )
    return ""


def numbered(names: Sequence[str], which: int) -> dict[int, str]:
    """Names by one of the numbers in them, where no other has the same there."""
    found: dict[int, list[str]] = {}
    for name in names:
        digits = re.findall("[0-9]+", name)
        if digits:
            found.setdefault(int(digits[which]), []).append(name)
    return {number: alike[0] for number, alike in found.items() if len(alike) == 1}


def by_number(images: Sequence[str], masks: Sequence[str]) -> str:
    """A sentence on names that agree in their last number, or their first."""
    for which in (-1, 0):
        image_of, mask_of = numbered(images, which), numbered(masks, which)
        both = sorted(image_of.keys() & mask_of.keys())
        if len(both) >= max(2, ENOUGH * min(len(images), len(masks))):
            pairs = [(image_of[number], mask_of[number]) for number in both]
            return (
                f"{len(both)} images and masks have the same number in their names, and may belong "
                f"together ({examples(pairs)}): if they do, give both the same name"
            )
    return ""


def in_order(name: str) -> list:
    """A key that sorts 2 before 10."""
    parts = re.split("([0-9]+)", name)  # every second one is a number
    return [int(part) if i % 2 else part for i, part in enumerate(parts)]


def by_order(images: Sequence[str], masks: Sequence[str]) -> str:
    """A sentence on one kind that is merely counted through, where there are as many of the
    other."""
    if len(images) != len(masks) or len(images) < 2:
        return ""
    for what, names in (("masks", masks), ("images", images)):
        numbers = sorted(int(name) for name in names if name.isdecimal())
        for first in (0, 1):
            if numbers == [*range(first, first + len(names))]:
                pairs = [*zip(sorted(images, key=in_order), sorted(masks, key=in_order))]
                return (
                    f"{what} are numbered from {numbers[0]} to {numbers[-1]}, and may follow the "
                    f"order of the others' names ({examples(pairs)}): look at some, and if that is "
                    "right, give both the same name"
                )
    return ""


def likely_cure(images: Sequence[str], masks: Sequence[str]) -> list[str]:
    """What may be the one cause of all names (without ending) that have no partner."""
    if not images or not masks:
        return []
    same = len({*images} & {*masks})
    if same >= ENOUGH * min(len(images), len(masks)):
        return [f"{same} images and masks of the same names lie in other splits; put them together"]
    for look in (by_spelling, by_affix, by_number, by_order):
        if sentence := look(images, masks):
            return [sentence]
    return []
