"""Tiny data sets in their owners' exact layouts: real GIF and PNG palettes, colour masks with every
class, list files.

Every picture is a grid of squares; a square's colour in the picture says its class, so that a net
can learn it by heart.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import Cityscapes

LABELS = Cityscapes.classes
LEVELS = np.stack(np.meshgrid(*[[10, 57, 104, 151, 198, 245]] * 3), -1).reshape(-1, 3)
# What a value looks like in a picture.
LOOKS = np.random.default_rng(7).permutation(LEVELS)[np.arange(256) % 216].astype(np.uint8)
VOC_PALETTE = [
    (0, 0, 0),
    (128, 0, 0),
    (0, 128, 0),
    (128, 128, 0),
    (0, 0, 128),
    (128, 0, 128),
    (0, 128, 128),
    (128, 128, 128),
    (64, 0, 0),
    (192, 0, 0),
    (64, 128, 0),
    (192, 128, 0),
    (64, 0, 128),
    (192, 0, 128),
    (64, 128, 128),
    (192, 128, 128),
    (0, 64, 0),
    (128, 64, 0),
    (0, 192, 0),
    (128, 192, 0),
    (0, 64, 128),
]


def grid(
    values: Sequence[int], seed: int, cell: int = 8, cells: tuple[int, int] = (6, 6)
) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H, W, 3) and its values (H, W): each value at least once, at places that differ
    from seed to seed."""
    rng = np.random.default_rng(seed)
    filled = rng.permutation(np.resize(values, cells[0] * cells[1])).reshape(cells)
    mask = np.kron(filled, np.ones((cell, cell), int)).astype(np.uint8)
    noise = rng.integers(-6, 7, (*mask.shape, 3))
    return np.clip(LOOKS[mask] + noise, 0, 255).astype(np.uint8), mask


def save(path: Path, pixels: np.ndarray, palette: Sequence[Sequence[int]] = (), **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(pixels)
    if palette:
        picture = Image.fromarray(pixels, "P") if pixels.ndim == 2 else picture
        picture.putpalette([number for color in palette for number in color])
    picture.save(path, **options)


def make_camvid(
    root: Path, splits: Sequence[str] = ("train", "val", "test"), count: int = 3
) -> Path:
    for number, split in enumerate(splits):
        for i in range(count):
            image, mask = grid(range(12), 10 * number + i)
            save(root / split / f"Seq_{split}_{i}.png", image)
            save(root / f"{split}annot" / f"Seq_{split}_{i}.png", mask)
    return root


def make_carvana(root: Path, side_by_side: bool = False, cars: int = 4, views: int = 2) -> Path:
    """Masks as the owners' GIFs: a palette of black and white, pixels 0 and 1."""
    for car in range(cars):
        for view in range(1, views + 1):
            image, mask = grid((0, 1), 10 * car + view, cell=16, cells=(3, 3))
            name = f"{car:012x}_{view:02d}"
            save(
                root / ("" if side_by_side else "train") / f"{name}.jpg",
                image,
                quality=95,
                subsampling=0,
            )
            save(
                root / ("" if side_by_side else "train_masks") / f"{name}_mask.gif",
                mask,
                [(0, 0, 0), (255, 255, 255)],
            )
    return root


def make_voc(
    root: Path, year: str, splits: Sequence[str] = ("train", "val"), count: int = 3
) -> Path:
    folder = root / "VOCdevkit" / f"VOC{year}"
    palette = [*VOC_PALETTE, *[(0, 0, 0)] * 234, (224, 224, 192)]
    for number, split in enumerate(splits):
        names = [f"{year}_{number}{i:05d}" for i in range(count)]
        for i, name in enumerate(names):
            image, mask = grid([*range(21), 255], 10 * number + i)
            save(folder / "JPEGImages" / f"{name}.jpg", image, quality=95, subsampling=0)
            save(folder / "SegmentationClass" / f"{name}.png", mask, palette)
        lists = folder / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True, exist_ok=True)
        (lists / f"{split}.txt").write_text("\n".join(names) + "\n")
    # Most of VOC's pictures have no mask.
    save(folder / "JPEGImages" / "unlisted.jpg", grid([0], 0)[0])
    return root


def color_labels(mask: np.ndarray) -> np.ndarray:
    """Cityscapes label ids as the owners' colours; the licence plate's id is 34 here."""
    colors = {label.id % 35: label.color for label in LABELS}
    return np.array([colors[i] for i in range(35)], np.uint8)[mask]


def make_gta5(root: Path, count: int = 7, palette: bool = False) -> Path:
    for i in range(count):
        image, mask = grid(range(35), i)
        save(root / "images" / f"{i + 1:05d}.png", image)
        if palette:
            save(root / "labels" / f"{i + 1:05d}.png", mask, color_labels(np.arange(35)).tolist())
        else:
            save(root / "labels" / f"{i + 1:05d}.png", color_labels(mask))
    return root


def make_cityscapes(
    root: Path, kinds: Sequence[str] = ("labelIds", "color"), count: int = 3
) -> Path:
    cities = {"train": "aachen", "val": "bonn", "test": "berlin"}
    for number, (split, city) in enumerate(cities.items()):
        for i in range(count):
            image, mask = grid(range(35), 10 * number + i)
            name = f"{city}_{i:06d}_000019"
            save(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", image)
            if split == "test":  # the owners keep these labels and give out empty ones
                mask = np.zeros_like(mask)
            if "labelIds" in kinds:
                save(
                    root / "gtFine" / split / city / f"{name}_gtFine_labelIds.png",
                    np.where(mask == 34, 255, mask).astype(np.uint8),
                )
            if "color" in kinds:
                opaque = np.full(mask.shape, 255, np.uint8)  # the owners' are RGBA
                colored = np.dstack([color_labels(mask), opaque])
                save(root / "gtFine" / split / city / f"{name}_gtFine_color.png", colored)
    return root
