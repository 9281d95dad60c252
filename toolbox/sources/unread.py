"""What to say of a folder that is no data set of any known kind."""

import re
from collections.abc import Sequence
from pathlib import Path

from toolbox.errors import InputError, few
from toolbox.files import list_files
from toolbox.sources.tree import walk

BRUSHED = r"task-\d+-annotation-\d+-by-\d+-tag-(.+)\.(png|npy)"  # Label Studio's names


def likely_tool(root: Path) -> str:
    """Whose export it may be that can't be read as it is, and what to export instead."""
    names = [path.name for path in walk(root, 1)]
    brushed = [name for name in names if re.fullmatch(BRUSHED, name)]
    if brushed:
        return (
            f"{brushed[0]} is one label of one picture, as Label Studio exports brushes: make of "
            "each picture's one mask with a number for each label, named as the picture, in masks/"
        )
    folders = [path for path in list_files(root) if path.is_dir()]
    if any((path / "ann").is_dir() for path in (root, *folders)):
        return "ann/ is Supervisely's: export to COCO there, and name that folder"
    return ""


def no_data_set(root: Path, kinds: Sequence[str]) -> InputError:
    """What was looked for, what is there, and what may be the way."""
    found = [f"{path.name}/" if path.is_dir() else path.name for path in list_files(root)]
    lines = [f"{root} is no data set that can be read; it was looked for", *kinds]
    lines.append(f"and found: {few(found, 6) or 'nothing'}. Dataset/readme.md shows each tree")
    likely = likely_tool(root)
    return InputError("\n  ".join(lines) + (f"\n{likely}" if likely else ""))
