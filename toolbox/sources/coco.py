"""COCO's JSON, as Roboflow, CVAT, Label Studio and makesense export it."""

import re
from collections.abc import Sequence
from pathlib import Path

from toolbox.errors import few
from toolbox.findings import Cause, FileInputError, noted
from toolbox.sources.drawn import Drawn
from toolbox.sources.sketches import Shape, Sketch
from toolbox.sources.tree import Tree, has_words, load_json, split_of

BROKEN = Cause("things can't be understood as COCO's", "export them anew")
PANOPTIC = Cause("files are COCO's panoptic form", "export instances: polygons, or run lengths")
UNKNOWN = Cause("annotations name what the JSON has not", "export it anew")


def shapes_in(label: str, segmentation: object) -> list[Shape]:
    """A segmentation's shapes: polygons, or runs."""
    if isinstance(segmentation, dict):
        return [Shape(label, "runs", segmentation)]
    return [Shape(label, "polygon", polygon, polygon) for polygon in segmentation]


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
                if isinstance(content, dict) and {"images", "categories"} <= content.keys():
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
            categories = {one["id"]: str(one["name"]) for one in content["categories"]}
            images = {one["id"]: one for one in content["images"]}
            if len(images) < len(content["images"]):
                raise ValueError("two images have the same id")
            annotations = content["annotations"]
            if annotations and "segments_info" in annotations[0]:
                raise FileInputError(f"{path} is COCO's panoptic form; {PANOPTIC.cure}", PANOPTIC)
            shapes = self.shapes_of(path, annotations, categories, images)
            # By their ids, with gaps or without; what has no pixel is left out later.
            self.listed += [categories[i] for i in sorted(categories)]
            words = (*tree.folders(path), *re.split("[^a-z]+", path.stem.lower()))
            sketches = []
            for i, one in images.items():
                image = self.picture_named(path, str(one["file_name"]), tree)
                if image:
                    size = one.get("width"), one.get("height")
                    split = split_of(words) or split_of(tree.folders(image))
                    sketches.append(Sketch(path, image, split, shapes[i], size))
            return sketches
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            sentence = (
                f"{path} can't be understood as COCO's ({type(error).__name__}: {error}); export "
                "it anew"
            )
            raise FileInputError(sentence, BROKEN, path) from error

    def shapes_of(
        self, path: Path, annotations: Sequence[dict], categories: dict, images: dict
    ) -> dict[object, list[Shape]]:
        """The shapes on each image, by its id; crowds are of their class as single things are."""
        shapes: dict[object, list[Shape]] = {i: [] for i in images}
        for one in annotations:
            category, image = one["category_id"], one["image_id"]
            if category not in categories or image not in images:
                what = f"category {category}" if category not in categories else f"image {image}"
                about = f"annotation {one.get('id')} of {path} names {what}"
                sentence = f"{about}, which is not in the JSON; export it anew"
                self.problems.append(FileInputError(sentence, UNKNOWN, about))
            elif one.get("segmentation"):
                shapes[image] += shapes_in(categories[category], one["segmentation"])
            else:
                self.boxes += 1
        return shapes
