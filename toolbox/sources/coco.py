"""COCO's JSON, as Roboflow, CVAT, Label Studio and makesense export it."""

import re
from collections.abc import Sequence
from pathlib import Path

from toolbox.errors import few
from toolbox.findings import Cause, FileInputError, noted
from toolbox.sources.drawn import Drawn
from toolbox.sources.sketches import Shape, Sketch
from toolbox.sources.tree import Tree, has_words, load_json, split_of

NEEDED = {"images", "categories", "annotations"}  # test sets may come without the last
BROKEN = Cause("things can't be understood as COCO's", "export them anew")
PANOPTIC = Cause("files are COCO's panoptic form", "export instances: polygons, or run lengths")
OTHER_SPLIT = Cause(
    "pictures lie in another split's folder than their JSON says", "put them into the JSON's"
)
UNKNOWN = Cause("annotations name what the JSON has not", "export it anew")


def shapes_in(label: str, segmentation: object) -> list[Shape]:
    """A segmentation's shapes: polygons, or runs; some converters leave the one list around them
    out, or add one."""
    if isinstance(segmentation, dict) or isinstance(segmentation[0], (int, float)):
        segmentation = [segmentation]
    shapes = []
    for one in segmentation:
        if isinstance(one, dict):
            shapes.append(Shape(label, "runs", one))
        else:
            shapes.append(Shape(label, "polygon", one, one))
    return shapes


def has_outline(annotation: dict) -> bool:
    """Whether there is more than a box: [] and [[]] are none."""
    segmentation = annotation.get("segmentation")
    return any(segmentation) if isinstance(segmentation, list) else bool(segmentation)


def by_id(entries: Sequence[dict], what: str) -> dict[str, dict]:
    """Entries by their ids, which some write as texts."""
    found = {str(one["id"]): one for one in entries}
    if len(found) < len(entries):
        raise ValueError(f"two {what} have the same id")
    return found


def in_order(i: str) -> tuple:
    """2 before 10."""
    return not i.isdecimal(), len(i), i


def side(image: dict, name: str) -> int | None:
    return int(image[name]) if image.get(name) else None


class Coco(Drawn):
    """One JSON for each split, or for all, with the pictures beside it, in images/, or wherever
    they are found by their names."""

    tool = "COCO's JSON"

    @classmethod
    def fits(cls, root: Path) -> bool:
        return has_words(root, (b'"images"', b'"annotations"', b'"categories"'))

    def sketches(self, tree: Tree) -> list[Sketch]:
        texts = tree.with_ending(".json")
        # COCO's own sets have captions, key points and more of the same pictures beside these.
        masks = [path for path in texts if path.name.startswith("instances_")]
        folders = {path.parent for path in masks}
        beside = [path for path in texts if path.parent in folders and path not in masks]
        found, others = [], [path.name for path in beside]
        for path in texts:
            if path in beside:
                continue
            with noted(self.problems):
                content = load_json(path)
                if isinstance(content, dict) and NEEDED <= content.keys():
                    found += self.of_file(path, content, tree)
                else:
                    others.append(path.name)
        if others:
            self.notes.append(
                f"{len(others)} JSON file(s) that hold no masks of COCO's left out: {few(others)}"
            )
        self.note_empty(found)
        return found

    def of_file(self, path: Path, content: dict, tree: Tree) -> list[Sketch]:
        """The pictures of one JSON."""
        try:
            listed = by_id(content["categories"], "categories")
            categories = {i: str(one["name"]) for i, one in listed.items()}
            images = by_id(content["images"], "images")
            annotations = content["annotations"]
            if annotations and "segments_info" in annotations[0]:
                raise FileInputError(f"{path} is COCO's panoptic form; {PANOPTIC.cure}", PANOPTIC)
            shapes = self.shapes_of(path, annotations, categories, images)
            # By their ids, with gaps or without; what has no pixel is left out later.
            self.listed += [categories[i] for i in sorted(categories, key=in_order)]
            words = (*tree.folders(path), *re.split("[^a-z]+", path.stem.lower()))
            sketches = []
            for i, one in images.items():
                image = self.picture_named(path, str(one["file_name"]), tree)
                if image:
                    size = side(one, "width"), side(one, "height")
                    split = self.split_for(path, words, image, tree)
                    sketches.append(Sketch(path, image, split, shapes[i], size))
            return sketches
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            sentence = (
                f"{path} can't be understood as COCO's ({type(error).__name__}: {error}); export "
                "it anew"
            )
            raise FileInputError(sentence, BROKEN, path) from error

    def split_for(self, path: Path, words: Sequence[str], image: Path, tree: Tree) -> str:
        """What the JSON's name says, or else the picture's folder; where they differ, one of them
        is wrong."""
        said, lies = split_of(words), split_of(tree.folders(image))
        if said and lies and said != lies:
            sentence = f"{image} is of {said} by {path}, and lies in {lies}; {OTHER_SPLIT.cure}"
            self.problems.append(FileInputError(sentence, OTHER_SPLIT, image))
        return said or lies

    def shapes_of(
        self, path: Path, annotations: Sequence[dict], categories: dict, images: dict
    ) -> dict[str, list[Shape]]:
        """The shapes on each image, by its id; crowds are of their class as single things are."""
        shapes: dict[str, list[Shape]] = {i: [] for i in images}
        for one in annotations:
            category, image = str(one["category_id"]), str(one["image_id"])
            if category not in categories or image not in images:
                what = f"category {category}" if category not in categories else f"image {image}"
                about = f"annotation {one.get('id')} of {path} names {what}"
                sentence = f"{about}, which is not in the JSON; export it anew"
                self.problems.append(FileInputError(sentence, UNKNOWN, about))
            elif has_outline(one):
                shapes[image] += shapes_in(categories[category], one["segmentation"])
            else:
                self.boxes += 1
        return shapes
