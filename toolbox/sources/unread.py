"""What to say of a folder that is no data set of any known kind."""

import re
from collections.abc import Sequence
from pathlib import Path

from toolbox.errors import InputError, few
from toolbox.files import list_files
from toolbox.sources.tree import has_words, walk

BRUSHED = r"task-\d+-annotation-\d+-by-\d+-.+-\d+"  # Label Studio's names
CVATS = "export 'Segmentation mask 1.1' there, with its pictures"
OTHERS = (  # an ending, what stands in such files, whose they are, and what to do
    (".json", b'"original_width"', "Label Studio's own", "export COCO or YOLO there, with images"),
    (".json", b'"dm_format_version"', "Datumaro's", f"if CVAT made them, {CVATS}"),
    (".json", b'"shape_attributes"', "VIA's", "export COCO there"),
    (".geojson", b'"FeatureCollection"', "GeoJSON", "export masks as PNG; in QuPath, label images"),
    (".xml", b"<bndbox>", "Pascal VOC's, of boxes", "no mask can be made of a box"),
    (".xml", b"<annotation>", "LabelMe's of old, or Pascal VOC's", f"if CVAT made them, {CVATS}"),
)


def brushed(names: Sequence[str]) -> list[str]:
    """What to do about Label Studio's brushes, where names are theirs."""
    for name in names:
        if re.fullmatch(BRUSHED, name):
            return [
                f"{name} is one label of one picture, as Label Studio exports brushes: make one "
                "mask of all of a picture's, with a number for each label and the picture's name"
            ]
    return []


def likely_tool(root: Path) -> list[str]:
    """Whose export it may be that can't be read as it is, and what to do."""
    folders = [path for path in list_files(root) if path.is_dir()]
    if any((path / "ann").is_dir() for path in (root, *folders)):
        return ["ann/ is Supervisely's: export to COCO there, and name that folder"]
    texts = [path.relative_to(root) for path in walk(root) if path.suffix.lower() == ".txt"]
    if any("labels" in path.parent.parts for path in texts):
        return ["labels/ may hold YOLO's: add data.yaml, with names: [first, second]"]
    if (root / "label_colors.txt").is_file():
        whose = "CamVid's, or CVAT's for CamVid, Cityscapes or KITTI"
        return [f"label_colors.txt is {whose}: if CVAT made it, {CVATS}"]
    for ending, word, whose, cure in OTHERS:
        if has_words(root, [word], ending):
            return [f"the {ending} files are {whose}: {cure}"]
    return brushed([path.stem for path in walk(root, 1)])


def no_data_set(root: Path, kinds: Sequence[str]) -> InputError:
    """What was looked for, what is there, and what may be the way."""
    found = [f"{path.name}/" if path.is_dir() else path.name for path in list_files(root)]
    lines = [f"{root} is no data set that can be read; it was looked for", *kinds]
    lines.append(f"and found: {few(found, 6) or 'nothing'}. Dataset/readme.md shows each tree")
    return InputError("\n".join(["\n  ".join(lines), *likely_tool(root)]))
