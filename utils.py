"""Losses, the learning rate, the confusion matrix with its scores, the checkpoint.

Masks are int64 (B, H, W) in 0..K-1 or IGNORE, logits float32 (B, K, H, W). A pixel that is IGNORE
adds to no sum below and has no gradient. A batch's loss is the mean of each picture's own, so that
eight pictures, or four times two, give one gradient, batch norm apart, however much is ignored.

There are two usual scores of a class with the true pixels T and the predicted P:

    IoU  = |T∩P| / |T∪P|              right, of all that is or was said to be of the class
    Dice = 2 |T∩P| / (|T| + |P|)      right ones counted twice, above and below

As |T∪P| = |T| + |P| - |T∩P|, one gives the other: Dice = 2 IoU / (1 + IoU).
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path

from toolbox.checkpoints import read_checkpoint, save_tensors
from toolbox.errors import check_parts
from toolbox.masks import IGNORE

import torch
import torch.nn.functional as F
from torch import Tensor

from model import build_model

# Losses take log-probabilities (B, K, H, W), see make_loss, and give each picture a number, (B,).


def picture_means(values: Tensor, counts: Tensor) -> Tensor:
    """Each picture's mean of values (B, …), weighted by counts; 0 where none counts."""
    counts = counts.flatten(1)
    total = (values.flatten(1) * counts).sum(dim=1)
    return total / counts.sum(dim=1).clamp(min=1e-6)


def of_own_class(log_probs: Tensor, masks: Tensor) -> Tensor:
    """The log-probability of the class that each pixel has, (B, H, W); 0 where it has none."""
    has_class = masks != IGNORE
    classes = masks.where(has_class, 0)  # the others look up class 0, and are then set to 0
    found = log_probs.gather(1, classes.unsqueeze(1))
    return found.squeeze(1).where(has_class, 0)


def cross_entropy(
    log_probs: Tensor, masks: Tensor, weights: Tensor | None = None, gamma: float = 0.0
) -> Tensor:
    """-log p, where p is the probability of a pixel's own class; the mean over a picture's pixels,
    of which weights (K,) say how much one of each class counts. With gamma it is the focal loss
    (Lin et al., 2017): each counts by (1 - p)^gamma, so that the easy do not drown the hard."""
    has_class = masks != IGNORE
    counts = has_class.float()
    if weights is not None:
        counts = weights[masks.where(has_class, 0)].where(has_class, 0)
    losses = -of_own_class(log_probs, masks)  # of each pixel
    if gamma > 0:
        p = torch.exp(-losses)
        losses = losses * (1 - p).clamp(min=1e-8) ** gamma  # a root has no slope at 0
    return picture_means(losses, counts)


def class_sums(values: Tensor, masks: Tensor, num_classes: int) -> Tensor:
    """Values (B, H, W), 0 where there is no class, added up over the pixels of each, (B, K): row by
    row at first, as a long sum in float32 loses small numbers."""
    classes = masks.where(masks != IGNORE, 0)
    rows = values.new_zeros(*masks.shape[:2], num_classes)  # (B, H, K)
    rows = rows.scatter_add(2, classes, values)  # rows[b, h, classes[b, h, w]] += values[b, h, w]
    return rows.sum(dim=1)


def overlap(log_probs: Tensor, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """|T|, |T∩P| and |P| of each class, (B, K), with probabilities for what is predicted: counted
    on argmax they would have no gradient, as a small change of the weights changes no argmax."""
    num_classes = log_probs.shape[1]
    counts = (masks != IGNORE).float()
    truth = class_sums(counts, masks, num_classes)
    own = of_own_class(log_probs, masks).exp()  # 1, not 0, where there is no class
    hits = class_sums(own * counts, masks, num_classes)
    probs = log_probs.exp() * counts.unsqueeze(1)
    return truth, hits, probs.sum(dim=(2, 3))


def dice(log_probs: Tensor, masks: Tensor) -> Tensor:
    """1 - 2 |T∩P| / (|T| + |P|), the mean over the classes that a picture has, however small."""
    truth, hits, claimed = overlap(log_probs, masks)
    total = truth + claimed
    score = 2 * hits / total.clamp(min=1e-6)
    return picture_means(1 - score, truth > 0)


def tversky(log_probs: Tensor, masks: Tensor, beta: float) -> Tensor:
    """1 - |T∩P| / (beta |T| + (1 - beta) |P|), Dice where beta is 1/2 (Salehi et al., 2017)."""
    truth, hits, claimed = overlap(log_probs, masks)
    total = beta * truth + (1 - beta) * claimed
    score = hits / total.clamp(min=1e-6)
    return picture_means(1 - score, truth > 0)


def lovasz(log_probs: Tensor, masks: Tensor) -> Tensor:
    """1 - IoU, made smooth between its values where every pixel is right or wrong: with a class's
    pixels sorted by error, worst first, each counts by what the IoU loses when that pixel joins the
    wrong ones (Berman et al., 2018)."""
    has_class = masks != IGNORE
    classes = masks.where(has_class, 0)
    truth = F.one_hot(classes, log_probs.shape[1])  # (B, H, W, K)
    truth = truth.movedim(-1, 1).where(has_class.unsqueeze(1), 0)
    probs = log_probs.exp().where(has_class.unsqueeze(1), 0)
    errors = (truth - probs).abs().flatten(2)  # (B, K, N); ignored pixels have 0, and come last
    errors, order = errors.sort(dim=2, descending=True)
    hits = truth.flatten(2).float().gather(2, order)
    total = hits.sum(dim=2, keepdim=True)
    right = total - hits.cumsum(dim=2)  # of the class, where the first n pixels are wrong
    union = total + (1 - hits).cumsum(dim=2)
    lost = 1 - right / union.clamp(min=1)
    steps = lost.diff(dim=2, prepend=torch.zeros_like(total))
    losses = (errors * steps).sum(dim=2)
    return picture_means(losses, total.squeeze(2) > 0)


Loss = Callable[[Tensor, Tensor], Tensor]  # logits and masks to the mean over the batch's pictures


def make_loss(
    name: str, weights: Tensor | None = None, gamma: float = 2.0, beta: float = 0.7
) -> Loss:
    """The loss of a name such as "ce+dice"."""
    known = {
        "ce": partial(cross_entropy, weights=weights),
        "focal": partial(cross_entropy, weights=weights, gamma=gamma),
        "dice": dice,
        "tversky": partial(tversky, beta=beta),
        "lovasz": lovasz,
    }
    parts = check_parts("loss", name, known, example="ce+dice")

    def loss(logits: Tensor, masks: Tensor) -> Tensor:
        outputs = len(logits) // len(masks)  # deep supervision has several to a mask
        masks = masks.repeat(outputs, 1, 1)
        log_probs = logits.log_softmax(dim=1)
        losses = [part(log_probs, masks) for part in parts]
        return sum(losses).mean()

    return loss


def learning_rate(
    step: int,
    base_lr: float,
    min_lr: float,
    warmup_steps: int,
    decay_factor: float,
    schedule: str = "sqrt",
    last_step: int = 0,
    falls: int = 0,
) -> float:
    """Quadratic up over the warm-up; then down from base_lr by the schedule, never below min_lr."""
    if step < warmup_steps:
        return max(base_lr * step**2 / warmup_steps**2, min_lr)
    since = step - warmup_steps
    done = since / max(1, last_step - warmup_steps)  # 0 to 1
    if schedule == "plateau":  # a tenth each time that validation stood still
        rate = base_lr / 10 ** min(falls, 99)  # more is too large for a float
    elif schedule == "cosine":  # slowly, fast, slowly, to min_lr at the last step
        rate = min_lr + (base_lr - min_lr) * (1 + math.cos(math.pi * done)) / 2
    elif decay_factor == 0:  # a square root, steep at first, to min_lr at the last step
        rate = base_lr - (base_lr - min_lr) * math.sqrt(done)
    else:  # a fall that does not look at base_lr: where that is low, a few steps end at min_lr
        rate = base_lr - math.sqrt(since / decay_factor)
    return max(rate, min_lr)


class ConfusionMatrix:
    """Pixels by their true class, the row, and the predicted one, the column. One matrix counts a
    whole split, so that its scores depend on no batch size."""

    def __init__(self, num_classes: int, device: torch.device | str = "cpu"):
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def update(self, preds: Tensor, masks: Tensor) -> None:
        """Add predictions and masks of the same shape, both class ids."""
        has_class = masks != IGNORE
        true = masks[has_class].long()
        predicted = preds[has_class].long()
        classes = len(self.counts)
        cells = torch.bincount(true * classes + predicted, minlength=classes**2)
        self.counts += cells.view(classes, classes)

    def scores(self) -> dict:
        """iou and dice (K,), NaN for a class that no mask has, their means over the others, and
        what they are made of."""
        counts = self.counts.cpu().double()
        hits = counts.diag()
        true = counts.sum(dim=1)
        predicted = counts.sum(dim=0)
        iou = hits / (true + predicted - hits)
        iou = iou.masked_fill(true == 0, math.nan)
        dice = 2 * hits / (true + predicted)
        dice = dice.masked_fill(true == 0, math.nan)
        return {
            "iou": iou,
            "dice": dice,
            "share": true / true.sum(),
            "hits": hits,
            "true": true,
            "predicted": predicted,
            "pixel_accuracy": (hits.sum() / true.sum()).item(),
            "mean_iou": iou.nanmean().item(),
            "mean_dice": dice.nanmean().item(),
        }


save_checkpoint = save_tensors  # of what checkpoint() in toolbox/keeping.py gathers, weights first


def load_checkpoint(path: Path) -> dict:
    """What save_checkpoint wrote, all that inference needs to know; nothing in it can run code."""
    return read_checkpoint(path, build_model)
