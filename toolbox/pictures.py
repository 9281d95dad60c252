"""Pictures of classes: palettes, overlays, legends, and sheets of several beside one another."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from toolbox.drawings import shown
from toolbox.files import write_atomic
from toolbox.masks import IGNORE, resize_image, resize_mask

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

OVERLAY_SIDE = 4096  # longest side of an overlay: viewers choke on more
CAPTION = 22  # height of a line of text over pictures, before it is enlarged
CELL = 256  # pixels that a small picture is enlarged to in a sheet, and a large one shrunk to
WRONG = (255, 140, 0)  # orange, which also the colour-blind tell from grey

Color = Sequence[int]


# ---- files ----


def save_png(path: Path, picture: Image.Image, notes: dict[str, str]) -> None:
    """Notes stand in the file as text."""
    texts = PngInfo()
    for name, text in notes.items():
        texts.add_text(name, text)
    write_atomic(path, lambda file: picture.save(file, "png", pnginfo=texts))


def save_picture(path: Path, picture: np.ndarray, **notes: str) -> None:
    """uint8 (H, W, 3) RGB as PNG."""
    save_png(path, Image.fromarray(picture), notes)


def save_mask(path: Path, mask: np.ndarray, colors: Sequence[Color], **notes: str) -> None:
    """Class ids uint8 (H, W) as a palette PNG: its pixels hold the ids, viewers show the
    colours."""
    picture = Image.fromarray(mask)
    # All 256 entries, else Pillow stores fewer bits and 255 comes back as 15.
    picture.putpalette(full_palette(colors).tobytes())
    save_png(path, picture, notes)


def read_note(path: Path, name: str) -> str | None:
    """A note in a picture, "" where it has none such; None where no picture can be opened there."""
    if not path.is_file():  # a pipe would keep us waiting
        return None
    with suppress(Exception), Image.open(path) as picture:
        return picture.info.get(name, "")


# ---- one picture ----


def full_palette(colors: Sequence[Color]) -> np.ndarray:
    """Colours for all 256 values, white for IGNORE; uint8 (256, 3)."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = colors
    palette[IGNORE] = 255
    return palette


def color_mask(mask: np.ndarray, colors: Sequence[Color]) -> np.ndarray:
    """Class ids (H, W) as colours, uint8 (H, W, 3)."""
    return full_palette(colors)[mask]


def heat(values: np.ndarray) -> np.ndarray:
    """Values (H, W) from 0, black, over red to 1, white, as uint8 (H, W, 3)."""
    grey = (values.clip(0, 1) * 255).astype(np.uint8)
    return cv2.applyColorMap(grey, cv2.COLORMAP_HOT)[..., ::-1]


def mark_errors(image: np.ndarray, mask: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """The picture in grey, with wrong pixels in orange and ignored ones white."""
    grey = image.mean(axis=2, keepdims=True).astype(np.uint8) // 2 + 60
    picture = np.repeat(grey, 3, axis=2)
    picture[(pred != mask) & (mask != IGNORE)] = WRONG
    picture[mask == IGNORE] = 255
    return picture


# ---- words ----


def lettering(width: int) -> int:
    """How many times larger words on a sheet of that width are, to be read where it is 900 wide."""
    return max(1, round(width / 900))


def headed(captions: Sequence[str], width: int) -> np.ndarray:
    """A strip uint8 (h, W, 3) with a caption over each column of that width."""
    times = lettering(width * len(captions))
    strip = Image.new("RGB", (width * len(captions), CAPTION * times), "white")
    draw = ImageDraw.Draw(strip)
    font = ImageFont.load_default(size=16 * times)
    for i, caption in enumerate(captions):
        draw.text((i * width + 4, 1), shown(caption, 200), fill="black", font=font)
    return np.array(strip)


def legend(names: Sequence[str], colors: Sequence[Color], width: int) -> np.ndarray:
    """A strip uint8 (h, width, 3) with a patch of colour and a name for each class, in as many
    lines as it takes."""
    times = lettering(width)
    names = [shown(name) for name in names]
    font = ImageFont.load_default(size=12 * times)
    corners, x, y = [], 6, 4
    for name in names:
        needed = int(font.getlength(name)) + 30 * times
        if x > 6 and x + needed > width:
            x, y = 6, y + 18 * times
        corners.append((x, y))
        x += needed
    strip = Image.new("RGB", (width, y + 20 * times), "white")
    draw = ImageDraw.Draw(strip)
    for (x, y), name, color in zip(corners, names, colors):
        patch = (x, y, x + 13 * times, y + 12 * times)
        draw.rectangle(patch, fill=tuple(color), outline="black")
        draw.text((x + 18 * times, y - 1), name, fill="black", font=font)
    return np.array(strip)


def with_legend(picture: np.ndarray, names: Sequence[str], colors: Sequence[Color]) -> np.ndarray:
    """The picture over its legend; a narrow one gets a white margin on the right."""
    width = max(picture.shape[1], 200)
    margin = np.full((picture.shape[0], width - picture.shape[1], 3), 255, np.uint8)
    widened = np.concatenate([picture, margin], axis=1)
    return np.concatenate([widened, legend(names, colors, width)])


def legend_of(
    masks: torch.Tensor, names: Sequence[str], colors: Sequence[Color]
) -> tuple[Sequence[str], Sequence[Color]]:
    """Names and colours for the legend of these masks: the classes, and white where some are
    ignored."""
    if (masks == IGNORE).any():
        return [*names, "ignored"], [*colors, (255, 255, 255)]
    return names, colors


def overlay(
    image: np.ndarray, mask: np.ndarray, names: Sequence[str], colors: Sequence[Color]
) -> np.ndarray:
    """The picture under its classes' colours, with a legend of the classes that are there; a
    picture too big for a screen is shrunk."""
    if max(mask.shape) > OVERLAY_SIDE:
        size = [max(1, round(side * OVERLAY_SIDE / max(mask.shape))) for side in mask.shape]
        image, mask = resize_image(image, size), resize_mask(mask, size)
    blended = cv2.addWeighted(image, 0.45, color_mask(mask, colors), 0.55, 0)
    present = [i for i in range(len(names)) if (mask == i).any()]
    return with_legend(blended, [names[i] for i in present], [colors[i] for i in present])


# ---- sheets ----


def frame(picture: np.ndarray) -> np.ndarray:
    """The picture in a white frame, enlarged if it is small."""
    times = max(1, round(CELL / picture.shape[1]))
    larger = np.kron(picture, np.ones((times, times, 1), np.uint8))
    return np.pad(larger, ((2, 2), (2, 2), (0, 0)), constant_values=255)


def sheet(
    rows: Sequence[Sequence[np.ndarray]],
    names: Sequence[str],
    colors: Sequence[Color],
    captions: Sequence[str],
    titles: Sequence[str] = (),
) -> np.ndarray:
    """Rows of pictures of one size with white lines between them, under captions of the columns,
    over the legend; titles are the rows'."""
    framed = [np.concatenate([frame(picture) for picture in row], axis=1) for row in rows]
    width = framed[0].shape[1]
    if titles:
        pairs = zip(titles, framed)
        framed = [np.concatenate([headed([title], width), row]) for title, row in pairs]
    head = headed(captions, width // len(captions))
    return with_legend(np.concatenate([head, *framed]), names, colors)


def sample_sheet(
    samples: Sequence[tuple[torch.Tensor, torch.Tensor]],
    names: Sequence[str],
    colors: Sequence[Color],
) -> np.ndarray:
    """Image and mask side by side, two pairs in a row."""
    cells = []
    for image, mask in samples:
        cells += [image.permute(1, 2, 0).numpy(), color_mask(mask.numpy(), colors)]
    rows = [cells[i : i + 4] for i in range(0, len(cells) - 3, 4)]
    masks = torch.stack([mask for _, mask in samples])
    return sheet(rows, *legend_of(masks, names, colors), ["image", "mask", "image", "mask"])


def prediction_sheet(
    images: torch.Tensor,
    masks: torch.Tensor,
    preds: torch.Tensor,
    names: Sequence[str],
    colors: Sequence[Color],
    titles: Sequence[str] = (),
) -> np.ndarray:
    """image | mask | prediction of each picture; with titles, also where the prediction is wrong.

    Images uint8 (B, 3, H, W), masks and preds uint8 (B, H, W).
    """
    captions, rows = ["image", "mask", "prediction"], []
    for image, mask, pred in zip(images.permute(0, 2, 3, 1).numpy(), masks.numpy(), preds.numpy()):
        row = [image, color_mask(mask, colors), color_mask(pred, colors)]
        if titles:
            row.append(mark_errors(image, mask, pred))
        rows.append(row)
    if titles:
        captions.append("wrong pixels: orange")
    return sheet(rows, *legend_of(masks, names, colors), captions, titles)


def learning_sheet(
    images: torch.Tensor,
    masks: torch.Tensor,
    seen: dict[int, torch.Tensor],
    names: Sequence[str],
    colors: Sequence[Color],
) -> np.ndarray:
    """image | mask | the prediction after up to four steps, so that learning can be watched.

    seen holds preds (B, H, W) by step; large pictures are shrunk, for all of it to be seen at once.
    """
    wanted = np.linspace(min(seen), max(seen), 4)
    steps = sorted({min(seen, key=lambda step: abs(step - one)) for one in wanted.tolist()})
    height, width = masks.shape[1:]
    size = (max(1, round(height * min(1, CELL / width))), min(width, CELL))
    rows = []
    for i, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        row = [resize_image(image, size)]
        for ids in (masks[i], *(seen[step][i] for step in steps)):
            row.append(color_mask(resize_mask(ids.numpy(), size), colors))
        rows.append(row)
    captions = ["image", "mask", *(f"step {step}" for step in steps)]
    return sheet(rows, *legend_of(masks, names, colors), captions)
