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


def without(names: Sequence[str], affix: tuple[str, str]) -> list[str]:
    """What is left of the names that begin and end so."""
    first, last = affix
    whole = [name for name in names if name.startswith(first) and name.endswith(last)]
    return [name[len(first) : len(name) - len(last)] for name in whole]


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
    return (
        f"{' and '.join(filter(None, found))}; without that in their names {count} pairs fit: "
        "rename the files so"
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


def likely_cure(images: Sequence[str], masks: Sequence[str]) -> list[str]:
    """What may be the one cause of all names (without ending) that have no partner."""
    if not images or not masks:
        return []
    same = len({*images} & {*masks})
    if same >= ENOUGH * min(len(images), len(masks)):
        return [f"{same} images and masks of the same names lie in other splits; put them together"]
    sentence = by_spelling(images, masks) or by_affix(images, masks)
    return [sentence] if sentence else []
