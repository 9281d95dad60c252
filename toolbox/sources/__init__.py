"""The data sets that are read as their owners lay them out, by name, and the kinds of folders of
one's own. A new one gets its line in SOURCES or in KINDS."""

from pathlib import Path

from toolbox.archives import is_archive, unpacked
from toolbox.errors import InputError
from toolbox.files import nearby_hint
from toolbox.sources.answers import NothingFound
from toolbox.sources.base import Source
from toolbox.sources.camvid import CamVid
from toolbox.sources.carvana import Carvana
from toolbox.sources.cityscapes import GTA5, Cityscapes, Cityscapes24, Cityscapes34
from toolbox.sources.coco import Coco
from toolbox.sources.cvat import Cvat
from toolbox.sources.cvat_xml import CvatXml
from toolbox.sources.folder import Folder
from toolbox.sources.labelme import Labelme
from toolbox.sources.layouts import inner_folder
from toolbox.sources.own import open_folder
from toolbox.sources.streets import Streets
from toolbox.sources.unread import no_data_set
from toolbox.sources.voc import VOC, VOC2007
from toolbox.sources.yolo import Yolo

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

KINDS: dict[type[Source], str] = {  # the first that fits is taken: what it is looked for by
    Folder: "images/ and masks/, perhaps in train/, val/ and test/",
    Cvat: "CVAT: labelmap.txt and SegmentationClass/",
    CvatXml: "CVAT: annotations.xml and images/",
    Yolo: "YOLO: data.yaml, images/ and labels/",
    Labelme: "labelme: a JSON with shapes for each picture",
    Coco: "COCO: a JSON with images, annotations and categories",
}


def open_own(root: Path, name: str) -> Source:
    """A folder of one's own, as what it holds: what a tool exported, or pictures with masks."""
    for kind in KINDS:
        if kind.fits(root):
            return open_folder(root, name) if kind is Folder else kind(root, name)
    source = open_folder(root, name)
    try:
        _ = source.layouts
    except NothingFound as answer:
        raise InputError(f"{no_data_set(root, [*KINDS.values()])}\n{answer}") from answer
    except InputError:
        pass  # what could be two things: told with all that is wrong
    return source


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
            return open_own(root, dataset)
        if root.is_file():
            raise InputError(f"{root} is a file; expected a folder, or a .zip of one")
    raise InputError(
        f"dataset is {dataset!r}, neither a folder nor one of {', '.join(SOURCES)}"
        + (nearby_hint(dataset) or nearby_hint(str(Path(data_dir, dataset))))
    )
