"""Carvana: cars from 16 sides, binary."""

from toolbox.masks import JPEG
from toolbox.sources.base import Pair, Source
from toolbox.values import COLOR, Table, color_key


class Carvana(Source):
    """train/*.jpg and train_masks/*_mask.gif, or all in one folder; 16 views of each car, named
    <car>_01 to <car>_16, stay together."""

    def find_pairs(self) -> list[Pair]:
        folders = [self.root / name for name in ("train", "train_masks")]
        folders = [folder for folder in folders if folder.is_dir()] or [self.root]
        images, masks = {}, {}
        for folder in folders:
            for stem, path in self.by_stem(folder, {*JPEG, ".gif", ".png"}).items():
                kind = masks if stem.endswith("_mask") else images
                kind[stem] = path
        pairs = self.match(images, masks)
        return [pair._replace(group=pair.image.stem.rpartition("_")[0]) for pair in pairs]

    def table(self) -> Table:
        meaning = {0: 0, 1: 1, 255: 1, COLOR: 0, color_key((255, 255, 255)): 1}
        return Table(["background", "car"], [(0, 0, 0), (255, 190, 0)], meaning)
