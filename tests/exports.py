"""Files as labelling tools leave them, tiny, made by each test itself."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path

from toolbox.errors import InputError

import numpy as np
import pytest
from PIL import Image

from dataset import prepare, read_ids

SIZE = (20, 16)  # width and height of pictures
SQUARE = [[2, 3], [9, 3], [9, 8], [2, 8]]
CORNER = [[12, 1], [18, 1], [18, 6]]


def save_picture(path: Path, seed: int = 0, size: Sequence[int] = SIZE, turn: int = 0) -> Path:
    """A picture of noise; turn is its EXIF note, where it has one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3))
    picture = Image.fromarray(pixels.astype(np.uint8))
    notes = Image.Exif()
    if turn:
        notes[0x0112] = turn
    picture.save(path, exif=notes)
    return path


def write_json(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def flat(points: Sequence) -> list[float]:
    return [float(number) for point in points for number in point]


# ---- labelme ----


def shape(label: str, points: Sequence, kind: str | None = "polygon", **more) -> dict:
    """As labelme writes one."""
    facts = {"group_id": None, "description": "", "flags": {}, "mask": None}
    return {"label": label, "points": points, "shape_type": kind, **facts, **more}


def painted(label: str, left: int, top: int, inside: np.ndarray) -> dict:
    """What was painted in labelme."""
    memory = io.BytesIO()
    Image.fromarray(inside.astype(np.uint8) * 255).convert("1").save(memory, "png")
    bottom, right = top + inside.shape[0] - 1, left + inside.shape[1] - 1
    text = base64.b64encode(memory.getvalue()).decode()
    return shape(label, [[left, top], [right, bottom]], "mask", mask=text)


def labelme(image: Path, shapes: Sequence[dict], **changes) -> Path:
    """The JSON beside a picture, which is made where there is none."""
    if not image.exists():
        save_picture(image, seed=sum(image.name.encode()))
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": image.name}
    content |= {"imageData": None, "imageHeight": SIZE[1], "imageWidth": SIZE[0], **changes}
    return write_json(image.with_suffix(".json"), content)


# ---- COCO ----


class CocoFile:
    """A JSON of COCO's that grows."""

    def __init__(self, categories: dict[int, str]):
        listed = [{"id": i, "name": name, "supercategory": ""} for i, name in categories.items()]
        self.content = {"info": {}, "licenses": [], "categories": listed}
        self.content |= {"images": [], "annotations": []}

    def image(self, name: str, i: int, size: Sequence[int] = SIZE) -> None:
        entry = {"id": i, "file_name": name, "width": size[0], "height": size[1]}
        self.content["images"].append(entry)

    def add(self, image: int, category: int, segmentation: object, crowd: int = 0) -> None:
        annotations = self.content["annotations"]
        entry = {"id": len(annotations) + 1, "image_id": image, "category_id": category}
        entry |= {"bbox": [0, 0, 5, 5], "area": 25, "iscrowd": crowd}
        annotations.append({**entry, "segmentation": segmentation})


# ---- YOLO ----


def yolo(image: Path, lines: Sequence[str], **options) -> Path:
    """A picture in images/ and its lines in labels/."""
    save_picture(image, seed=sum(str(image).encode()), **options)
    text = Path(str(image.with_suffix(".txt")).replace("/images", "/labels"))
    text.parent.mkdir(parents=True, exist_ok=True)
    text.write_text("\n".join(lines))
    return text


def line(number: int, points: Sequence, size: Sequence[int] = SIZE) -> str:
    shares = [f"{x / size[0]:.8f} {y / size[1]:.8f}" for x, y in points]
    return f"{number} {' '.join(shares)}"


# ---- CVAT ----


def cvat(root: Path, labels: dict[str, tuple], masks: dict[str, np.ndarray], place="JPEGImages"):
    """masks hold numbers of labels, in their order."""
    text = "# label:color_rgb:parts:actions\n"
    for name, color in labels.items():
        text += f"{name}:{','.join(map(str, color))}::\n"
    colors = np.array([*labels.values()], np.uint8)
    lists = root / "ImageSets" / "Segmentation"
    for folder in (lists, root / "SegmentationClass"):
        folder.mkdir(parents=True)
    (root / "labelmap.txt").write_text(text)
    for name, mask in masks.items():
        save_picture(root / place / f"{name}.jpg", sum(name.encode()), mask.shape[::-1])
        path = root / "SegmentationClass" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(colors[mask]).save(path)
    (lists / "default.txt").write_text("\n".join(masks) + "\n")


# ---- what is made of them ----


def ids_of(data, stem: str) -> np.ndarray:
    """The class ids of the mask of a picture."""
    pair = next(pair for pair in data.pairs if pair.image.stem == stem)
    return read_ids(pair.mask, data.table.meaning, data.source.read_values)


def refused(folder) -> str:
    """The sentence that a folder is refused with."""
    with pytest.raises(InputError) as caught:
        prepare(str(folder), "", (16, 16))
    return str(caught.value)
