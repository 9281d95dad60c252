"""Cityscapes with 19, 24 or 34 classes, and GTA5 in the same colours."""

from toolbox.findings import Cause, FileInputError
from toolbox.sources.base import NO_MASK, Pair, Source
from toolbox.values import IGNORE, Table, color_key

# 24 classes told apart by colour, in the order of a published tutorial.
NAMES_24 = (
    "void,building,pole,sky,vegetation,traffic sign,fence,traffic light,person,dynamic,car,road,"
    "sidewalk,parking,ground,terrain,bicycle,rider,wall,bus,bridge,motorcycle,train,truck"
).split(",")


class Cityscapes(Source):
    """leftImg8bit/<split>/<city>/ and gtFine/<split>/<city>/: the official train and val with
    the 19 classes that are usually judged."""

    kinds = ("labelIds", "color")  # masks to look for, the better ones first

    def find_pairs(self) -> list[Pair]:
        pairs = []
        for image in sorted(self.root.glob("leftImg8bit/*/*/*_leftImg8bit.png")):
            split, city = image.parts[-3:-1]
            if split not in ("train", "val"):
                continue
            stem = image.name.removesuffix("leftImg8bit.png")
            folder = self.root / "gtFine" / split / city
            masks = [folder / f"{stem}gtFine_{kind}.png" for kind in self.kinds]
            masks = [mask for mask in masks if mask.exists()]
            if masks:
                pairs.append(Pair(image, masks[0], split, city))
            else:
                expected = f"{folder / stem}gtFine_{' or '.join(self.kinds)}.png"
                sentence = f"{image} has no mask {expected}"
                cause = Cause(f"images have no mask of {' or '.join(self.kinds)}", NO_MASK.cure)
                self.problems.append(FileInputError(sentence, cause, image))
        if (self.root / "leftImg8bit" / "test").is_dir():
            self.notes.append("test is left out: its owners keep its labels")
        return pairs

    def classes(self, labels) -> tuple[list[str], list[str]]:
        """Names of all classes in the order of ids, and of those trained; labels are
        torchvision's."""
        names = [label.name for label in labels if not label.ignore_in_eval]
        return names, names

    def table(self) -> Table:
        from torchvision.datasets import Cityscapes as Official  # knows every label's id and colour

        names, trained = self.classes(Official.classes)
        colors = {label.name: label.color for label in Official.classes}
        class_of = {colors[name]: names.index(name) for name in trained}
        # GTA5 writes a licence plate's id as 34, Cityscapes as -1 or 255.
        meaning = {IGNORE: IGNORE, 34: IGNORE}
        for label in Official.classes:
            by_color = class_of.get(label.color, IGNORE)
            by_name = names.index(label.name) if label.name in trained else IGNORE
            if "color" in self.kinds:
                meaning[color_key(label.color)] = by_color
            # Labels of one colour (pole and group of poles) are one class where colours come first.
            meaning[label.id] = by_color if self.kinds[0] == "color" else by_name
        return Table(names, [colors.get(name, (0, 0, 0)) for name in names], meaning)


class Cityscapes24(Cityscapes):
    """24 classes told apart by colour; black and the rarest are ignored."""

    kinds = ("color", "labelIds")

    def classes(self, labels) -> tuple[list[str], list[str]]:
        return list(NAMES_24), list(NAMES_24[1:])


class Cityscapes34(Cityscapes):
    """All 34 label ids as they are; those of void, 0 to 6, are ignored. Some share a colour, so it
    needs labelIds."""

    kinds = ("labelIds",)

    def classes(self, labels) -> tuple[list[str], list[str]]:
        own = [label for label in labels if label.id >= 0]
        trained = [label.name for label in own if label.category != "void"]
        return [label.name for label in own], trained


class GTA5(Cityscapes):
    """images/*.png and labels/*.png of the same names, in the ids or colours of Cityscapes, of
    which the usual 19 are trained."""

    def find_pairs(self) -> list[Pair]:
        images, labels = self.by_stem(self.root / "images"), self.by_stem(self.root / "labels")
        for stem in ("15188", "17705"):
            if images.pop(stem, None) and labels.pop(stem, None):
                self.notes.append(
                    f"{stem}.png is left out: its label has another size, as is known"
                )
        return self.match(images, labels)
