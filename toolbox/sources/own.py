"""A folder of one's own, as what it looks like."""

from contextlib import suppress
from pathlib import Path

from toolbox.errors import InputError
from toolbox.sources.alpha import AlphaMasks
from toolbox.sources.base import Source
from toolbox.sources.folder import Folder
from toolbox.sources.per_class import PerClass
from toolbox.sources.per_object import PerObject


def open_folder(root: Path, name: str) -> Source:
    """images and masks, unless these are seen to be of another kind."""
    source = Folder(root, name)
    with suppress(InputError):  # the folder's own problems, which are told when it is read
        for kind in (PerObject, PerClass, AlphaMasks):
            if kind.fits(source):
                return kind(root, name)
    return source
