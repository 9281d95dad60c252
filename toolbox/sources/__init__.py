"""The data sets that are read as their owners lay them out, by name. A new one gets its line in
SOURCES."""

from pathlib import Path

from toolbox.archives import is_archive, unpacked
from toolbox.errors import InputError
from toolbox.sources.base import Source
from toolbox.sources.camvid import CamVid
from toolbox.sources.carvana import Carvana
from toolbox.sources.cityscapes import GTA5, Cityscapes, Cityscapes24, Cityscapes34
from toolbox.sources.layouts import inner_folder
from toolbox.sources.own import open_folder
from toolbox.sources.streets import Streets
from toolbox.sources.voc import VOC, VOC2007

SOURCES: dict[str, type[Source]] = {
    "streets": Streets,
    "cityscapes": Cityscapes,
    "cityscapes24": Cityscapes24,
    "cityscapes34": Cityscapes34,
    "carvana": Carvana,
    "voc2007": VOC2007,
    "voc2012": VOC,
    "gta5": GTA5,
    "camvid": CamVid,
}


def open_source(dataset: str, data_dir: str) -> Source:
    """One of SOURCES in data_dir, or in a folder there of its name, or a folder of one's own,
    which may be packed in a .zip."""
    if dataset == "streets":
        return Streets(Path(data_dir, dataset), dataset)
    if dataset in SOURCES:
        folders = [path for path in sorted(Path(data_dir).glob("*")) if path.is_dir()]
        named = {path.name.lower(): path for path in folders}
        family = dataset.rstrip("0123456789")  # cityscapes24 may lie in Cityscapes
        root = named.get(dataset) or named.get(family) or Path(data_dir)
        return SOURCES[dataset](root, dataset)
    for root in (Path(dataset), Path(data_dir, dataset)):
        if is_archive(root):
            root = inner_folder(unpacked(root))
        if root.is_dir():
            return open_folder(root, dataset)
        if root.is_file():
            raise InputError(f"{root} is a file; expected a folder, or a .zip of one")
    raise InputError(f"dataset is {dataset!r}, neither a folder nor one of {', '.join(SOURCES)}")
