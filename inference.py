"""Colour pictures: drop them into InferenceOutput/TestImages, then `python inference.py`.

For each NAME.EXT there, InferenceOutput/TestPredictions gets NAME.png, whose pixels are class ids
and show the classes' colours; NAME_overlay.png; and a line in predictions.csv. The checkpoint says
what net it is, its classes and its size. What it has coloured before is left, what another has
coloured is done anew, and a file that this script has not made is never touched.

With uncertainty_passes=N the net predicts N times with dropout alive (Gal and Ghahramani, 2016),
and the mean counts. NAME_uncertainty.png and uncertainty.csv say how unsure it is, and how much of
that the passes disagree about (epistemic: not learnt yet, more pictures would help).

    python inference.py [FOLDER or PICTURE …] [name=value …]
    torchrun --standalone --nproc_per_node=N inference.py …     N processes share the pictures
"""

from collections.abc import Iterator, Sequence

from toolbox.colouring import Colouring
from toolbox.descriptions import check_scale
from toolbox.errors import InputError
from toolbox.layers import fuse_batch_norm, wake_dropout
from toolbox.machine import Place
from toolbox.nets import by_each, read_all, together
from toolbox.processes import from_first, join_processes
from toolbox.settings import check, run_script, settings_of
from toolbox.tiles import Prediction, logit_strips, upsampled

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from model import UNet, build_model
from utils import load_checkpoint

checkpoint = "unet_model.pth"  # or a run's folder; of a run with folds, the mean of all its nets
input_dir = "InferenceOutput/TestImages"
output_dir = "InferenceOutput/TestPredictions"
batch_size = 8  # pictures that go through the net together, where they are of one size for it
tile = False  # True: large pictures are cut into tiles, at the scale that was trained
tta = False  # True: the mean of six looks, mirrored and at three scales; six times the work
uncertainty_passes = 0  # predictions with dropout alive, 20 for instance; 0 = one without
overlay = True  # also the picture under its classes' colours
overwrite = False  # True: also what this checkpoint has coloured before
recursive = False  # True: also the pictures in folders below input_dir, keeping their tree
device = "auto"  # auto, cpu, cuda, cuda:1, mps
precision = "auto"  # auto, fp32, bf16, fp16


def load_model(saved: dict, place: Place, is_alone: bool = True) -> UNet:
    """The net that a checkpoint describes, ready to predict."""
    check_scale(checkpoint, saved, tile)
    model = build_model(**saved["model"])
    model.load_state_dict(saved["weights"])
    model.eval()
    fuse_batch_norm(model)
    if uncertainty_passes and not wake_dropout(model) and is_alone:
        raise InputError(
            f"uncertainty_passes is {uncertainty_passes}, but {checkpoint} was trained without "
            "dropout, so that all passes agree; train with dropout=0.1, or set uncertainty_passes=0"
        )
    return model.to(place.device, memory_format=torch.channels_last)


def net_size(shape: Sequence[int], saved: dict) -> list[int]:
    """The size (h, w) at which a picture (H, W) goes into the net."""
    if tile:
        return [max(1, round(side * saved["scale"])) for side in shape[:2]]
    return list(saved["image_size"])


def looks(model: UNet, images: Tensor) -> Iterator[Tensor]:
    """Logits (B, K, h, w) of images uint8 (B, 3, h, w): once, or for each pass with dropout alive,
    or each of six looks."""
    if not tta:
        for _ in range(max(1, uncertainty_passes)):
            yield model(images)
        return
    size = images.shape[2:]
    for factor in (1, 0.75, 1.25):
        scaled = images
        if factor != 1:
            resized = [max(1, round(side * factor)) for side in size]
            scaled = F.interpolate(images.float(), resized, mode="bilinear", antialias=True)
        logits = model(scaled.contiguous(memory_format=torch.channels_last))
        yield F.interpolate(logits, size=size, mode="bilinear")
        mirrored = model(scaled.flip(3).contiguous(memory_format=torch.channels_last))
        yield F.interpolate(mirrored.flip(3), size=size, mode="bilinear")


def entropy(probs: Tensor) -> Tensor:
    """Minus the sum of p log p: 0 where one class is sure, log K where all K are alike."""
    return torch.special.entr(probs).sum(1)


def decide(passes: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
    """From logits (1, K, H, W), one for each look, to each pixel's class (1, H, W), how probable it
    is, and its total and epistemic uncertainty (2, H, W), or None where no dropout is alive."""
    probs = [logits.softmax(1) for logits in passes]
    mean = sum(probs) / len(probs)
    confidence, ids = mean.max(1)
    if not uncertainty_passes:
        return ids, confidence, None
    total = entropy(mean)
    aleatoric = sum(map(entropy, probs)) / len(probs)  # what a pass is unsure of itself
    epistemic = (total - aleatoric).clamp(min=0)
    return ids, confidence, torch.cat([total, epistemic])


@torch.no_grad()
def predict(
    model: UNet, shapes: Sequence[tuple[int, int]], small: np.ndarray, place: Place
) -> list[Prediction]:
    """Predictions for pictures uint8 (B, h, w, 3) of the net's size, which were of these shapes
    before: strip by strip, logits are enlarged to that, decided on, and added to the result."""
    torch.manual_seed(0)  # the same picture gives the same uncertainty every time
    results = [Prediction(shape, model.num_classes, uncertainty_passes > 0) for shape in shapes]
    height = small.shape[1]
    images = torch.from_numpy(small).permute(0, 3, 1, 2)
    all_looks = by_each(model, looks)  # of several nets, one after the other: each adds its own
    for top, passes in logit_strips(model, all_looks, images, place, tile):
        for i, result in enumerate(results):
            one = slice(i, i + 1)
            strips = [upsampled(logits[one], *shapes[i], top, height) for logits in passes]
            for parts in zip(*strips):  # the same rows, by each look
                result.add(*decide(parts))
    return results


def main() -> int:
    constants = settings_of(globals())
    check(constants)
    place = Place(device, precision)
    join_processes(place.device)
    saved = from_first(lambda: read_all(checkpoint, load_checkpoint, tile))
    model = together([load_model(one, place, len(saved) == 1) for one in saved])
    colouring = Colouring(
        constants,
        saved,
        place,
        predict=lambda shapes, small: predict(model, shapes, small, place),
        net_size=lambda shape: net_size(shape, saved[0]),
    )
    return colouring.run()  # reads each picture, has it predicted at net_size, writes its files


if __name__ == "__main__":
    run_script(globals(), main)
