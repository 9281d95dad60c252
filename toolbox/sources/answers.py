"""What to say of a folder in which no pairs are found: what lies there, and what to rename."""

from contextlib import suppress
from pathlib import Path

from toolbox.errors import InputError, few
from toolbox.names import likely_cure
from toolbox.sources.layouts import (
    Role,
    folders_in,
    has_masks,
    named_layouts,
    object_folders,
    pictures_in,
    role_of,
    usual_layouts,
)
from toolbox.sources.side_by_side import look_at, tail_of

TREES = "Dataset/readme.md shows the trees that are read"
MOST = 200  # folders that are looked into


class NothingFound(InputError):
    """No pictures with masks are there, under whatever names."""


def contents(folder: Path) -> str:
    """A folder's name and how much is in it."""
    pictures, inner = len(pictures_in(folder)), len(folders_in(folder))
    parts = [f"pictures: {pictures}"] if pictures else []
    if inner:
        parts.append(f"folders: {inner}")
    return f"{folder.name} ({', '.join(parts) or 'no pictures'})"


def is_data_set(folder: Path) -> bool:
    """Whether a folder could be read by itself."""
    if object_folders(folder):
        return True
    with suppress(InputError):  # one that could be read in two ways is none
        layouts = usual_layouts(folder)
        if not has_masks(layouts):
            layouts = named_layouts(folder)
        return any(
            layout.images.is_dir() and (layout.images != layout.masks or look_at(layout.images))
            for layout in layouts
        )
    return False


def cure_for(root: Path) -> str:
    inner = [folder for folder in folders_in(root)[:MOST] if is_data_set(folder)]
    if len(inner) == 1:
        return f"{inner[0]} looks like a data set: set dataset to it"
    if inner:
        names = few([folder.name for folder in inner])
        return (
            f"each of {names} has images and masks of its own: put all images into "
            f"{root / 'images'} and all masks into {root / 'masks'}, or set dataset to one of them"
        )
    masks = [folder for folder in folders_in(root) if role_of(folder) == Role("", "masks")]
    if len(masks) == 1:
        return f"if {masks[0].name} holds the masks, call the folder of their pictures images"
    stems = [path.stem for path in pictures_in(root)]
    likely = likely_cure([stem for stem in stems if not tail_of(stem)], [*filter(tail_of, stems)])
    if likely:
        return likely[0]
    return "call the folder of the pictures images, and that of their masks masks"


def nothing_found(root: Path) -> NothingFound:
    """What lies there instead of images and masks, and what to do about it."""
    missing = [name for name in ("images", "masks") if not (root / name).is_dir()]
    said = f"{root} has no pairs"
    if missing:
        said = f"{root / missing[0]} is not there"
    if len(missing) == 2:
        said += ", nor is masks"
    there = [contents(folder) for folder in folders_in(root)]
    loose = len(pictures_in(root))
    if loose:
        there.append(f"{loose} pictures side by side, of which none is another's mask")
    found = few(there, 5) or "nothing that is known as a picture"
    return NothingFound(f"{said}; {root} holds {found}; {cure_for(root)}. {TREES}")
