"""CamVid: the plainest source, to copy for another data set."""

from toolbox.sources.base import SPLITS, Pair, Source
from toolbox.values import IGNORE, Table


def film_of(stem: str) -> str:
    """The drive that a picture is a moment of, such as 0016E5 of 0016E5_08159."""
    film, separator, _ = stem.partition("_")
    return film if separator else ""


class CamVid(Source):
    """The SegNet layout: train/ and trainannot/, val/ and valannot/, test/ and testannot/; grey
    masks of ids, 11 is void."""

    classes = {
        "sky": (128, 128, 128),
        "building": (128, 0, 0),
        "pole": (192, 192, 128),
        "road": (128, 64, 128),
        "pavement": (60, 40, 222),
        "tree": (128, 128, 0),
        "sign": (192, 128, 128),
        "fence": (64, 64, 128),
        "car": (64, 0, 128),
        "pedestrian": (64, 64, 0),
        "bicyclist": (0, 128, 192),
    }

    def find_pairs(self) -> list[Pair]:
        pairs = []
        for split in SPLITS:
            if (self.root / split).is_dir():
                masks = self.root / f"{split}annot"
                pairs += self.match_folders(self.root / split, masks, split)
        return [pair._replace(group=film_of(pair.image.stem)) for pair in pairs]

    def table(self) -> Table:
        meaning = {value: value for value in range(11)}
        meaning[11] = IGNORE
        return Table(list(self.classes), list(self.classes.values()), meaning)
