"""train.txt and val.txt: lists of names that say which pairs are for what."""

from collections.abc import Sequence
from pathlib import Path, PurePath

from toolbox.errors import InputError, few
from toolbox.sources.base import SPLITS, Pair
from toolbox.sources.layouts import PICTURES
from toolbox.tables import read_text

PLACES = (".", "ImageSets/Segmentation", "ImageSets", "splits")  # of such lists


def stem_of(name: str) -> str:
    """A picture's name without folders and ending; a dot alone begins no ending."""
    path = PurePath(name.replace("\\", "/"))
    return path.stem if path.suffix.lower() in PICTURES else path.name


def stems_in(path: Path, known: set[str]) -> set[str]:
    """The known stems that a list names, one a line; after a blank its mask may stand."""
    found = set()
    for line in read_text(path).splitlines():
        whole = stem_of(line.strip())
        first = stem_of(line.split()[0]) if line.strip() else ""
        found |= {whole if whole in known else first} & known
    return found


def listed_splits(root: Path, pairs: Sequence[Pair], notes: list[str]) -> list[Pair]:
    """The pairs with the splits that train.txt and val.txt, or test.txt, give them, and without
    those in no list; all as they are where there are no such lists."""
    known = {pair.image.stem for pair in pairs}
    for place in PLACES:
        lists = {split: root / place / f"{split}.txt" for split in SPLITS}
        lists = {split: path for split, path in lists.items() if path.is_file()}
        if "train" not in lists or len(lists) < 2:
            continue
        splits: dict[str, str] = {}
        for split, path in lists.items():
            stems = stems_in(path, known)
            if twice := sorted(stems & splits.keys()):
                first = lists[splits[twice[0]]]
                raise InputError(
                    f"{few(twice)} stand in {first} and in {path}; a picture is in one of them"
                )
            splits |= dict.fromkeys(stems, split)
        names = ", ".join(path.relative_to(root).as_posix() for path in lists.values())
        if not splits:
            notes.append(f"{names} name no picture that is here: not taken for the splits")
            return list(pairs)
        notes.append(f"the splits are those of {names}")
        left_out = sorted(known - splits.keys())
        if left_out:
            notes.append(f"{len(left_out)} picture(s) in none of them left out: {few(left_out)}")
        kept = [pair for pair in pairs if pair.image.stem in splits]
        return [pair._replace(split=splits[pair.image.stem]) for pair in kept]
    return list(pairs)
