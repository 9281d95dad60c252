"""Big pictures: logits enlarged strip by strip, and found tile by tile."""

from collections.abc import Callable, Iterator

from toolbox.machine import Place

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

TILE = 512  # side of a tile's core, in the net's pixels
LARGE = 4 * TILE**2  # pixels, or squares of them, of a picture that goes in tiles by itself
STRIP = 2**22  # logits in a strip

Looks = Callable[[torch.Tensor], Iterator[torch.Tensor]]  # pictures to logits, once for each look


def upsampled(
    logits: torch.Tensor, height: int, width: int, first: int = 0, rows: int = 0
) -> Iterator[torch.Tensor]:
    """Logits (1, K, n, w) enlarged, bilinear as F.interpolate does it, for a picture (height,
    width), in strips that fit into memory.

    Where they are only n of `rows` rows, from `first` on, it is the picture's rows between them;
    a last row is the next part's first.
    """
    count = logits.shape[2]
    rows = rows or count
    middles = (torch.arange(height, dtype=torch.float64) + 0.5) * rows / height - 0.5
    middles = middles.clamp(0, rows - 1)
    above = middles.long().clamp(max=max(rows - 2, 0))
    is_own = (above >= first) & (above < first + max(count - 1, 1))
    own = is_own.nonzero().flatten()
    if not len(own):
        return
    for part in own.split(max(1, STRIP // (width * logits.shape[1]))):
        upper = (above[part] - first).to(logits.device)
        lower = (upper + 1).clamp(max=count - 1)
        weight = (middles[part] - above[part]).float().view(-1, 1).to(logits.device)
        strip = torch.lerp(logits[:, :, upper], logits[:, :, lower], weight)
        yield F.interpolate(strip, size=(len(part), width), mode="bilinear")


def classes_at(logits: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Class ids (height, width) of logits (1, K, h, w), enlarged before they are compared."""
    strips = upsampled(logits, height, width)
    return torch.cat([strip.argmax(1)[0] for strip in strips])


def logit_strips(
    model: nn.Module, looks: Looks, pictures: torch.Tensor, place: Place, tile: bool = False
) -> Iterator[tuple[int, list[torch.Tensor]]]:
    """The net's logits of pictures (B, 3, h, w), strip by strip: the first row, and the strip (B,
    K, rows, w) once for each look; tile by tile where they are large, or tile is True.

    Tiles start at multiples of what the net divides by, and reach over their cores by more than
    a pixel of the logits sees, so that the cores are what the whole picture would give. A
    strip's last row is the next one's first.
    """
    height, width = pictures.shape[2:]
    multiple = model.multiple()
    core, context = max(height, width), 0
    if tile or height * width > LARGE * model.patch**2:
        core, context = TILE // multiple * multiple or multiple, 8 * multiple
    for top in range(0, max(1, height - 1), core):
        bottom, y = min(height, top + core + 1), max(0, top - context)
        columns: list[list[torch.Tensor]] = []  # of each tile, the logits of its core by each look
        for left in range(0, width, core):
            right, x = min(width, left + core), max(0, left - context)
            piece = pictures[:, :, y : top + core + context, x : left + core + context]
            images = piece.to(place.device).contiguous(memory_format=torch.channels_last)
            rows, cells = slice(top - y, bottom - y), slice(left - x, right - x)
            with place.autocast():
                columns.append([logits[:, :, rows, cells] for logits in looks(images)])
        yield top, [torch.cat(parts, dim=3) for parts in zip(*columns)]


def whole_logits(model: nn.Module, images: torch.Tensor, place: Place) -> torch.Tensor:
    """Logits (B, K, h, w) of images as they are; of large ones tile by tile, for memory."""
    strips = logit_strips(model, lambda part: iter([model(part)]), images, place)
    parts = [strip for _, (strip,) in strips]
    return torch.cat([*(part[:, :, :-1] for part in parts[:-1]), parts[-1]], dim=2)


class Prediction:
    """What is known of a picture, filled from the top down."""

    def __init__(self, shape: tuple[int, int], num_classes: int, with_uncertainty: bool):
        self.ids = np.empty(shape, np.uint8)  # (H, W)
        self.uncertainty: np.ndarray | None = None  # (2, H, W): total and epistemic
        if with_uncertainty:
            self.uncertainty = np.empty((2, *shape), np.float32)
        self.sums = np.zeros((3, num_classes))  # by class: pixels, total and epistemic uncertainty
        self.confidence, self.rows = 0.0, 0

    def add(
        self, ids: torch.Tensor, confidence: torch.Tensor, uncertainty: torch.Tensor | None
    ) -> None:
        """The next rows: the class that each pixel gets and how probable it is (1, rows, W); and
        the uncertainties (2, rows, W)."""
        part = slice(self.rows, self.rows + ids.shape[1])
        self.rows = part.stop
        self.ids[part] = ids[0].byte().cpu().numpy()
        self.confidence += confidence.sum().item() / self.ids.size
        chosen, classes = self.ids[part].ravel(), self.sums.shape[1]
        self.sums[0] += np.bincount(chosen, minlength=classes)
        if uncertainty is not None:
            self.uncertainty[:, part] = uncertainty.cpu().numpy()
            for i, values in enumerate(self.uncertainty[:, part], start=1):
                self.sums[i] += np.bincount(chosen, values.ravel(), classes)
