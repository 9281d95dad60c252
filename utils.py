"""Processes, settings for one run, the machine, losses, the optimizer, the learning rate, the confusion matrix, checkpoints and pictures.

Masks are int64 (B, H, W) in 0..K-1 or IGNORE; logits are float32 (B, K, H, W). Ignored pixels count nowhere.
A batch's loss is the mean over its pictures of each picture's own loss, so that a batch of eight and four batches of two
give the same gradient, however unevenly the ignored pixels lie.
"""

import ast
import csv
import ctypes
import difflib
import io
import math
import os
import runpy
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import redirect_stdout, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo

from dataset import IGNORE, InputError, resize_image, resize_mask, writing

# ---- processes: torchrun starts N of them, and numbers them; one alone is number 0 of 1 ----


def rank() -> int:
    return int(os.environ.get("RANK", 0))


def processes() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def cores() -> int:
    """The cores that this process has for itself."""
    available = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return max(1, available // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def join_processes(device: torch.device) -> None:
    """Meet the others: over nccl for what lies on GPUs, over gloo for the rest."""
    if processes() == 1 or dist.is_initialized():
        return
    if device.type != "cuda":
        torch.set_num_threads(cores())
    patience = timedelta(hours=6)  # the first may have much to read
    store, number, count = next(dist.rendezvous("env://", timeout=patience))
    if (
        os.environ.get("GROUP_WORLD_SIZE") == "1"
    ):  # one machine's store outlives a restart, with the addresses of those who were before
        store = dist.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=patience)


def from_first(make: Callable):
    """What the first process makes, on all of them."""
    box = [make() if rank() == 0 else None]
    if processes() > 1:
        dist.broadcast_object_list(box)
    return box[0]


def from_all(thing) -> list:
    """The thing of each process, in their order."""
    things = [thing]
    if processes() > 1:
        things *= processes()
        dist.all_gather_object(things, thing)
    return things


def once_a_machine(make: Callable):
    """make(), each machine's first process before its others, who find done what has to be done once."""
    is_first = os.environ.get("LOCAL_RANK", "0") == "0"
    made = make() if is_first else None
    from_all(None)
    return made if is_first else make()


def agree(number: int) -> int:
    """The largest of all processes' numbers."""
    box = torch.tensor(number)
    if processes() > 1:
        dist.all_reduce(box, dist.ReduceOp.MAX)
    return box.item()


def add_up(*tensors: torch.Tensor) -> None:
    """Put the sum over all processes into each tensor."""
    for tensor in tensors if processes() > 1 else ():
        dist.all_reduce(tensor)


def share_buffers(model: torch.nn.Module) -> None:
    """Give all processes the first one's buffers, which gradients don't keep alike: the averages of batch norm."""
    for buffer in model.buffers() if processes() > 1 else ():
        dist.broadcast(buffer, 0)


# ---- settings: recipes and name=value ----


def settings_of(module: dict) -> dict:
    """A script's constants: its plain lower-case numbers, strings and tuples."""
    return {
        name: value
        for name, value in module.items()
        if name.islower()
        and not name.startswith("_")
        and isinstance(value, (bool, int, float, str, tuple))
    }


def parse(text, default):
    """text as a value of the default's type, or None; an int may stand for a float, a single number for a pair."""
    if isinstance(text, str) and not isinstance(default, str):
        try:
            text = ast.literal_eval({"true": "True", "false": "False"}.get(text.lower(), text))
        except (ValueError, SyntaxError):
            return None
    if isinstance(default, tuple) and isinstance(text, list):
        text = tuple(text)
    if isinstance(default, tuple) and len(default) == 2 and type(text) in (int, float):
        text = (text, text)
    if isinstance(default, float) and type(text) is int:
        text = float(text)
    return text if type(text) is type(default) else None


def override(module: dict, arguments: Sequence[str]) -> None:
    """Set a script's constants for this run from recipes (files of constants) and name=value, in the order given."""
    known = settings_of(module)
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if equals:
            given = {name: text}
        elif Path(argument).is_file():
            try:
                given = {
                    name: value
                    for name, value in runpy.run_path(argument).items()
                    if not name.startswith("_")
                }
            except Exception as error:  # it is a user's program and may fail in any way
                raise InputError(
                    f"{argument} can't be run as a recipe ({type(error).__name__}: {error}); expected lines such as batch_size = 4"
                ) from error
        else:
            raise InputError(f"{argument!r} is neither a recipe's file nor name=value")
        for name, text in given.items():
            if name not in known:
                nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
                raise InputError(f"there is no constant {name!r}; did you mean {nearest}?")
            value = parse(text, known[name])
            if value is None:
                raise InputError(
                    f"{name} is {text!r}; expected {type(known[name]).__name__} as in {name} = {known[name]!r}"
                )
            module[name] = value


def run_script(module: dict, main: Callable[[], int | None]) -> None:
    """Run a script with the command line's settings; what the user can put right ends in a sentence, not in a traceback."""
    try:
        override(module, sys.argv[1:])
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere if rank() else sys.stdout):
            status = main()
        if dist.is_initialized():
            dist.destroy_process_group()
        sys.exit(status)
    except InputError as problem:
        leave(
            str(problem).rpartition("InputError: ")[2]
        )  # one from a worker comes with the worker's traceback before it
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)
    except RuntimeError as error:
        if processes() == 1 or not any(
            words in str(error)
            for words in (
                "Connection closed",
                "Connection reset",
                "Broken pipe",
                "imed out",
                "abort",
            )
        ):
            raise
        leave(
            "another process of this run has ended; what it said stands above. Without a cause there it was killed: start again, training with resume=true, "
            f"or let torchrun do so by itself with --max-restarts=3 ({str(error).splitlines()[0]})"
        )


def leave(sentence: str) -> None:
    """End with a sentence."""
    if processes() == 1:
        sys.exit(sentence)
    time.sleep(
        2 * (rank() > 0)
    )  # where all processes failed alike, the first says so and torchrun ends the others meanwhile
    print(sentence, file=sys.stderr, flush=True)
    os._exit(1)  # leaving in good order would wait for the others, who wait for this one


# ---- the machine ----


class Place:
    """Where the net runs and in which precision."""

    def __init__(self, device: str, precision: str):
        several = processes() > 1
        if device == "auto":
            device = (
                "cuda"
                if torch.cuda.is_available()
                else "mps"
                if torch.backends.mps.is_available() and not several
                else "cpu"
            )
        if several and device.startswith("cuda:"):
            raise InputError(
                f"device is {device!r}; with several processes each takes a GPU of its own: set device=cuda"
            )
        if several and device == "cuda":
            device = f"cuda:{os.environ['LOCAL_RANK']}"
        try:
            self.device = torch.device(device)
            if self.device.index is not None and self.device.type == "cuda":
                torch.cuda.set_device(
                    self.device
                )  # else memory would be taken on the first GPU too
            torch.zeros(1, device=self.device)
        except (
            RuntimeError,
            AssertionError,
            AttributeError,
        ) as error:  # the last where torch was built without CUDA
            raise InputError(
                f"device is {device!r}, which this machine doesn't offer ({str(error).splitlines()[0]}); auto takes what is there"
            ) from error
        self.precision = self.best_precision() if precision == "auto" else precision
        dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        if self.precision not in dtypes or (self.precision == "fp16" and self.device.type == "cpu"):
            raise InputError(
                f"precision is {precision!r}; expected auto, fp32 or bf16, or on a GPU fp16"
            )
        self.dtype = dtypes[self.precision]

    def best_precision(self) -> str:
        """bf16 only where the chip multiplies in it: emulated, it is ten times slower than fp32."""
        if self.device.type == "cuda":
            return "bf16" if torch.cuda.get_device_capability(self.device)[0] >= 8 else "fp16"
        has = getattr(torch.cpu, "get_capabilities", dict)() if self.device.type == "cpu" else {}
        return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") else "fp32"

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def layout(self, channels: int) -> torch.memory_format:
        """The order in memory in which a net that begins with so many channels learns fastest: channels last, where the chips' own kernels
        have it; in fp32 on CPUs the gradients of wide convolutions are slow in it."""
        return (
            torch.contiguous_format
            if channels >= 32 and (self.device.type, self.dtype) == ("cpu", torch.float32)
            else torch.channels_last
        )

    def put(
        self, batch: Sequence[torch.Tensor], layout: torch.memory_format = torch.channels_last
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and masks on the device: uint8 travels, int64 masks are made there."""
        images, masks = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        return images.contiguous(memory_format=layout), masks.long()

    def __str__(self) -> str:
        return f"{self.device} in {self.precision}"


def keep_memory() -> None:
    """Have glibc, the C library of most Linux systems, keep what was freed for what comes next.

    It would give each large tensor's memory back and let the system make all its pages anew a moment later, a fifth of a step on CPUs.
    """
    with suppress(AttributeError, TypeError):  # other C libraries have no such thing
        set_option = ctypes.CDLL(None).mallopt
        set_option(
            -4, 0
        )  # M_MMAP_MAX: no tensor gets a mapping of its own, which would end with it
        set_option(-1, -1)  # M_TRIM_THRESHOLD: the heap never shrinks


def is_out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory; on CPUs PyTorch has no error of its own for it."""
    return isinstance(error, MemoryError) or any(
        words in str(error)
        for words in ("out of memory", "can't allocate memory", "Insufficient memory")
    )


# ---- losses ----
#
# cross_entropy, tversky, dice and lovasz take log-probabilities (B, K, H, W) in float32, which make_loss finds once for all of them, and masks
# (B, H, W), and give one number for each picture, (B,). Pixels without a class add to no sum and have no gradient.


def of_own_class(log_probs: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """The log-probability of the class that each pixel has, (B, H, W); 0 where it has none."""
    has_class = masks != IGNORE  # the others look up class 0, and are then set to 0
    return (
        log_probs.gather(1, masks.where(has_class, 0).unsqueeze(1)).squeeze(1).where(has_class, 0)
    )


def cross_entropy(
    log_probs: torch.Tensor,
    masks: torch.Tensor,
    weights: torch.Tensor | None = None,
    gamma: float = 0.0,
) -> torch.Tensor:
    """Each picture's mean over its pixels with a class; 0 for a picture that has none.

    weights (K,) say how much a pixel of each class counts. With gamma it is the focal loss (Lin et al., 2017): a pixel counts by
    (1 - p)^gamma, where p is the probability of its class, so that the many easy ones do not drown the few hard ones.
    """
    valid = masks != IGNORE
    share = (
        valid.float() if weights is None else weights[masks.where(valid, 0)] * valid
    )  # (B, H, W)
    per_pixel = -of_own_class(log_probs, masks)
    if gamma > 0:
        per_pixel = per_pixel * (1 - torch.exp(-per_pixel)).clamp(min=1e-8) ** gamma
    return (per_pixel * share).sum(dim=(1, 2)) / share.sum(dim=(1, 2)).clamp(min=1e-6)


def mean_over_present(losses: torch.Tensor, present: torch.Tensor) -> torch.Tensor:
    """Losses of each class and whether the picture has it, both (B, K), to (B,): the classes that a picture has count alike, however few their pixels."""
    return (losses * present).sum(dim=1) / present.sum(dim=1).clamp(min=1)


def tversky(log_probs: torch.Tensor, masks: torch.Tensor, beta: float) -> torch.Tensor:
    """Each picture's 1 - hits / (hits + beta * missed + (1 - beta) * false alarms) on probabilities, which, unlike argmax, have a gradient."""
    valid = (masks != IGNORE).to(log_probs.dtype)
    classes = masks.where(masks != IGNORE, 0)
    # Each pixel adds to its class, first row by row: a long sum in float32 loses small numbers.
    rows = log_probs.new_zeros(len(masks), masks.shape[1], log_probs.shape[1])  # (B, H, K)
    truth = rows.scatter_add(2, classes, valid).sum(dim=1)  # (B, K), as are the next three
    hits = rows.scatter_add(2, classes, of_own_class(log_probs, masks).exp() * valid).sum(dim=1)
    claimed = (log_probs.exp() * valid.unsqueeze(1)).sum(
        dim=(2, 3)
    )  # all that is given to a class, rightly or not
    whole = (
        beta * truth + (1 - beta) * claimed
    )  # truth is hits and missed, claimed is hits and false alarms
    return mean_over_present(1 - hits / whole.clamp(min=1e-6), truth > 0)


def dice(log_probs: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Each picture's 1 - soft Dice, averaged over the classes present in it."""
    return tversky(log_probs, masks, beta=0.5)


def lovasz(log_probs: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
    """Lovász-softmax (Berman et al., 2018): the IoU itself, made smooth between the values it has where every pixel is right or wrong.

    With a class's pixels sorted by their error, worst first, each error counts by what the IoU loses when that pixel joins the wrong ones.
    """
    valid = (masks != IGNORE).unsqueeze(1)
    truth = (
        (F.one_hot(masks.where(masks != IGNORE, 0), log_probs.shape[1]).movedim(-1, 1) * valid)
        .flatten(2)
        .float()
    )  # (B, K, N)
    errors, order = (
        (truth - (log_probs.exp() * valid).flatten(2)).abs().sort(dim=2, descending=True)
    )  # ignored pixels have error 0: they come last and add nothing
    hits = truth.gather(2, order)
    missed = hits.cumsum(dim=2)
    total = truth.sum(dim=2, keepdim=True)
    lost = 1 - (total - missed) / (total + (1 - hits).cumsum(dim=2)).clamp(
        min=1
    )  # 1 - IoU with the first n pixels wrong
    steps = torch.diff(lost, dim=2, prepend=torch.zeros_like(total))
    return mean_over_present((errors * steps).sum(dim=2), truth.sum(dim=2) > 0)


Loss = Callable[
    [torch.Tensor, torch.Tensor], torch.Tensor
]  # from logits and masks to the mean over the batch's pictures


def make_loss(
    name: str, weights: torch.Tensor | None = None, gamma: float = 2.0, beta: float = 0.7
) -> Loss:
    """The loss that a name such as "ce+dice" stands for, from logits and masks to the mean over the batch's pictures.

    weights (K,) are for ce and focal, gamma for focal, beta for tversky.
    """
    losses = {
        "ce": partial(cross_entropy, weights=weights),
        "focal": partial(cross_entropy, weights=weights, gamma=gamma),
        "dice": dice,
        "tversky": partial(tversky, beta=beta),
        "lovasz": lovasz,
    }
    parts = name.split("+")
    if unknown := [part for part in parts if part not in losses]:
        raise InputError(
            f"loss is {name!r}, of which {unknown[0]!r} is unknown; expected {', '.join(losses)} or a sum such as ce+dice"
        )

    def loss(logits: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        log_probs = logits.log_softmax(dim=1)
        return sum(losses[part](log_probs, masks) for part in parts).mean()

    return loss


def weigh_classes(pixels: torch.Tensor, power: float) -> torch.Tensor:
    """Each class's share of the pixels (K,) to the power of -power, 1 on average over all pixels; 0 for a class without any."""
    share = pixels.double() / pixels.sum()
    weights = share.clamp(min=1e-12) ** -power * (share > 0)
    return (weights / (weights * share).sum()).float()


# ---- the optimizer ----


def growth_of(square: torch.Tensor) -> torch.Tensor:
    """3.4445 - 4.775 square + 2.0315 square²."""
    growth = torch.addmm(square, square, square, beta=-4.775, alpha=2.0315)
    growth.diagonal().add_(3.4445)
    return growth


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix with the same directions, all about equally strong: its singular values, from 0 to 1 at first, come to lie near 1.

    Each of five rounds takes a singular value s to 3.4445 s - 4.775 s³ + 2.0315 s⁵; the coefficients, Jordan's, make small ones grow fast.
    What the rounds multiply the matrix by is found on its square alone, which is small: a third of the work of multiplying it each time.
    """
    x = matrix / (matrix.norm() + 1e-7)
    x = x if len(x) <= x.shape[1] else x.T
    square = x @ x.T
    factor = growth = growth_of(square)
    for _ in range(4):
        square = growth @ square @ growth
        growth = growth_of(square)
        factor = growth @ factor
    x = factor @ x
    return x if x.shape == matrix.shape else x.T


class Muon(torch.optim.AdamW):
    """Muon (Jordan et al., 2024) for the kernels of convolutions, AdamW for all else.

    A kernel's gradient, as a matrix of output channels by inputs, has a few strong directions and many weak ones, which
    else hardly move. Made orthogonal, the step goes as far in each. It is as long as AdamW's usually is, so that both take the same learning rates.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], lr: float, weight_decay: float):
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, fused=True)
        self._step_supports_amp_scaling = (
            False  # fused AdamW leaves out steps that are not finite itself; here the scaler has to
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.ndim == 4 and kernel.grad is not None:
                    state = self.state[kernel]
                    if not state:
                        state.update(
                            step=torch.zeros(()), momentum=torch.zeros_like(kernel)
                        )  # AdamW wants to find a step
                    mean = state["momentum"].lerp_(kernel.grad, 0.05)
                    ahead = kernel.grad.lerp(mean, 0.95).flatten(1)
                    kernel.mul_(1 - group["lr"] * group["weight_decay"])
                    kernel.add_(
                        orthogonal(ahead).view(kernel.shape),
                        alpha=-0.2 * group["lr"] * max(ahead.shape) ** 0.5,
                    )
                    kernel.grad = None  # AdamW passes over what has none
        super().step()


OPTIMIZERS = {
    "adamw": partial(torch.optim.AdamW, fused=True),
    "muon": Muon,
}  # fused: one kernel for all weights


# ---- the learning rate ----

SCHEDULES = ("sqrt", "cosine", "plateau")


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
    if schedule == "sqrt":  # less the square root of the steps since: steep at first
        return max(base_lr - math.sqrt((step - warmup_steps) / decay_factor), min_lr)
    if schedule == "cosine":  # slowly, fast, slowly, to min_lr at last_step
        done = (step - warmup_steps) / max(1, last_step - warmup_steps)
        return min_lr + (base_lr - min_lr) * (1 + math.cos(math.pi * done)) / 2
    return max(base_lr / 10**falls, min_lr)


def count_plateaus(losses: Sequence[float], patience: int) -> int:
    """How many times `patience` evaluations in a row brought no lower loss."""
    count, waited, lowest = 0, 0, math.inf
    for loss in losses:
        waited = 0 if loss < lowest else waited + 1
        lowest = min(lowest, loss)
        if waited == patience:
            count, waited = count + 1, 0
    return count


# ---- metrics ----


def upsampled(
    logits: torch.Tensor, height: int, width: int, first: int = 0, rows: int = 0
) -> Iterator[torch.Tensor]:
    """Logits (1, K, n, w) enlarged, bilinear as F.interpolate does it, for a picture (height, width), in strips that fit into memory.

    Where they are only n of `rows` rows, from `first` on, it is the picture's rows between them; a last row is the next part's first.
    """
    rows, count = rows or logits.shape[2], logits.shape[2]
    place = ((torch.arange(height, dtype=torch.float64) + 0.5) * rows / height - 0.5).clamp(
        0, rows - 1
    )
    above = place.long().clamp(max=max(rows - 2, 0))
    own = ((above >= first) & (above < first + max(count - 1, 1))).nonzero().flatten()
    for part in own.split(max(1, 2**22 // (width * logits.shape[1]))) if len(own) else ():
        upper = (above[part] - first).to(logits.device)
        share = (place[part] - above[part]).float().view(-1, 1).to(logits.device)
        strip = torch.lerp(
            logits[:, :, upper], logits[:, :, (upper + 1).clamp(max=count - 1)], share
        )
        yield F.interpolate(strip, size=(len(part), width), mode="bilinear")


class ConfusionMatrix:
    """Counts of pixels, row = true class, column = predicted; all scores come from the one matrix over a whole split."""

    def __init__(self, num_classes: int, device: torch.device | str = "cpu"):
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64, device=device)

    def update(self, preds: torch.Tensor, masks: torch.Tensor) -> None:
        """Add predictions and masks of the same shape, both class ids; ignored pixels are left out."""
        classes = len(self.counts)
        valid = masks != IGNORE
        pairs = masks[valid].long() * classes + preds[valid].long()
        self.counts += torch.bincount(pairs, minlength=classes**2).view(classes, classes)

    def scores(self) -> dict:
        """Tensors on the CPU: share, iou, dice (K,), NaN for a class that the masks don't have; and the means over those they have."""
        counts = self.counts.cpu().double()
        hit, true, predicted = counts.diag(), counts.sum(1), counts.sum(0)
        absent = true == 0
        iou = (hit / (true + predicted - hit)).masked_fill(absent, math.nan)
        dice_score = (2 * hit / (true + predicted)).masked_fill(absent, math.nan)
        return {
            "share": true / true.sum(),
            "iou": iou,
            "dice": dice_score,
            "pixel_accuracy": (hit.sum() / true.sum()).item(),
            "mean_iou": iou.nanmean().item(),
            "mean_dice": dice_score.nanmean().item(),
        }

    def report(self, names: Sequence[str]) -> dict:
        """The scores as report.json holds them (null where a class is absent), with the baseline: always the commonest class."""
        scores = self.scores()
        share = scores["share"]
        commonest = int(share.nan_to_num().argmax())

        def number(value) -> float | None:
            return None if math.isnan(value) else float(value)

        classes = [
            {
                "name": name,
                "share": number(share[i]),
                "iou": number(scores["iou"][i]),
                "dice": number(scores["dice"][i]),
            }
            for i, name in enumerate(names)
        ]
        baseline = {
            "class": names[commonest],
            "pixel_accuracy": number(share[commonest]),
            "mean_iou": number(share[commonest] / max(1, int((share > 0).sum()))),
        }
        return {
            **{key: number(scores[key]) for key in ("pixel_accuracy", "mean_iou", "mean_dice")},
            "classes": classes,
            "baseline": baseline,
        }


def format_report(report: dict[str, dict]) -> str:
    """The closing table: a column for each split, a row for each class with its share of the last split's pixels."""
    scores = list(report.values())
    rows = [("", [*report, "share"])]
    for key, title in (
        ("pixel_accuracy", "pixel accuracy"),
        ("mean_iou", "mean IoU"),
        ("mean_dice", "mean Dice"),
    ):
        rows.append((title, [split[key] for split in scores]))
    for classes in zip(*(split["classes"] for split in scores)):
        rows.append(
            (
                f"  IoU {classes[0]['name']}",
                [*(entry["iou"] for entry in classes), f"{classes[-1]['share'] or 0:.1%}"],
            )
        )
    rows.append(("always the commonest class:", [split["baseline"]["class"] for split in scores]))
    for key, title in (("pixel_accuracy", "  pixel accuracy"), ("mean_iou", "  mean IoU")):
        rows.append((title, [split["baseline"][key] for split in scores]))

    def cell(value: float | str | None) -> str:
        return "-" if value is None else value if isinstance(value, str) else f"{value:.4f}"

    first = max(len(title) for title, _ in rows)
    other = 3 + max(len(cell(value)) for _, values in rows for value in values)
    return "\n".join(
        f"{title:<{first}}" + "".join(f"{cell(value):>{other}}" for value in values)
        for title, values in rows
    )


# ---- files: written aside, flushed, then renamed, so that a kill or a full disk leaves the previous one whole ----


def replace(aside: Path, path: Path) -> None:
    """Put aside in path's place; Windows refuses that while another program, such as a virus scanner, has path open."""
    for wait in (0.1, 0.5, 2):
        with suppress(PermissionError):
            return os.replace(aside, path)
        time.sleep(wait)
    os.replace(aside, path)


def write_atomic(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Let write fill a file beside path, then put it in path's place."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(aside, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            replace(aside, path)
    finally:
        with suppress(OSError):
            aside.unlink(missing_ok=True)


def write_table(path: Path, rows: Sequence[Sequence]) -> None:
    """Rows as CSV."""
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    write_atomic(path, lambda file: file.write(text.getvalue().encode()))


def save_checkpoint(path: Path, checkpoint: dict) -> None:
    memory = (
        io.BytesIO()
    )  # first into memory: told of a full disk, torch.save says nothing that a user understands
    torch.save(checkpoint, memory)
    write_atomic(path, lambda file: file.write(memory.getbuffer()))


def load_checkpoint(path: Path) -> dict:
    """A checkpoint's dict; weights_only, so that a stranger's file can't run code."""
    if not path.is_file():
        raise InputError(f"checkpoint {path} is not there; `python train.py` makes one")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if (
            checkpoint["format"] != 1
            or not {"model", "weights", "classes", "image_size"} <= checkpoint.keys()
        ):
            raise ValueError(f"format {checkpoint['format']}")
    except OSError as error:
        raise InputError(
            f"{path} can't be read ({error.strerror or error}); give leave to read it"
        ) from error
    except (
        Exception
    ) as error:  # torch.load raises a dozen kinds for a file that is torn, foreign or hostile
        raise InputError(
            f"{path} is not a checkpoint of this project ({type(error).__name__}); expected one that train.py wrote"
        ) from error
    return checkpoint


# ---- pictures ----

OVERLAY_SIDE = 4096  # longest side of an overlay: viewers choke on more
CAPTION = 22  # height of a line of text over pictures, before it is enlarged


def save_png(path: Path, picture: Image.Image, notes: dict[str, str]) -> None:
    """Notes stand in the file as text."""
    texts = PngInfo()
    for name, text in notes.items():
        texts.add_text(name, text)
    write_atomic(path, lambda file: picture.save(file, "png", pnginfo=texts))


def save_picture(path: Path, picture: np.ndarray, **notes: str) -> None:
    """uint8 (H, W, 3) RGB as PNG."""
    save_png(path, Image.fromarray(picture), notes)


def full_palette(colors: Sequence[Sequence[int]]) -> np.ndarray:
    """Colours for all 256 values, white for IGNORE; uint8 (256, 3)."""
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(colors)] = colors
    palette[IGNORE] = 255
    return palette


def save_mask(path: Path, mask: np.ndarray, colors: Sequence[Sequence[int]], **notes: str) -> None:
    """Class ids uint8 (H, W) as a palette PNG: its pixels hold the ids, viewers show the colours."""
    picture = Image.fromarray(mask)
    picture.putpalette(
        full_palette(colors).tobytes()
    )  # all 256 entries, else Pillow stores fewer bits and 255 comes back as 15
    save_png(path, picture, notes)


def read_note(path: Path, name: str) -> str | None:
    """A note in a picture, "" where it has none such; None where there is no picture, or one that can't be opened."""
    with suppress(Exception), Image.open(path) as picture:
        return picture.info.get(name, "")


def color_mask(mask: np.ndarray, colors: Sequence[Sequence[int]]) -> np.ndarray:
    """Class ids (H, W) as colours, uint8 (H, W, 3)."""
    return full_palette(colors)[mask]


def lettering(width: int) -> int:
    """How many times larger the words on a sheet of that width are, so that they can be read where it is shown 900 pixels wide."""
    return max(1, round(width / 900))


def legend(names: Sequence[str], colors: Sequence[Sequence[int]], width: int) -> np.ndarray:
    """A strip uint8 (h, width, 3) with a patch of colour and a name for each class, in as many lines as it takes."""
    times = lettering(width)
    font = ImageFont.load_default(size=12 * times)
    places, x, y = [], 6, 4
    for name in names:
        needed = int(font.getlength(name)) + 30 * times
        if x > 6 and x + needed > width:
            x, y = 6, y + 18 * times
        places.append((x, y))
        x += needed
    strip = Image.new("RGB", (width, y + 20 * times), "white")
    draw = ImageDraw.Draw(strip)
    for (x, y), name, color in zip(places, names, colors):
        draw.rectangle((x, y, x + 13 * times, y + 12 * times), fill=tuple(color), outline="black")
        draw.text((x + 18 * times, y - 1), name, fill="black", font=font)
    return np.array(strip)


def with_legend(
    picture: np.ndarray, names: Sequence[str], colors: Sequence[Sequence[int]]
) -> np.ndarray:
    """The picture over its legend; a narrow one gets a white margin on the right."""
    width = max(picture.shape[1], 200)
    margin = np.full((picture.shape[0], width - picture.shape[1], 3), 255, np.uint8)
    return np.concatenate([np.concatenate([picture, margin], axis=1), legend(names, colors, width)])


def overlay(
    image: np.ndarray, mask: np.ndarray, names: Sequence[str], colors: Sequence[Sequence[int]]
) -> np.ndarray:
    """The picture under its classes' colours, with a legend of the classes that are there; a picture too big for a screen is shrunk."""
    if max(mask.shape) > OVERLAY_SIDE:
        size = [max(1, round(side * OVERLAY_SIDE / max(mask.shape))) for side in mask.shape]
        image, mask = resize_image(image, size), resize_mask(mask, size)
    blended = cv2.addWeighted(image, 0.45, color_mask(mask, colors), 0.55, 0)
    present = [i for i in range(len(names)) if (mask == i).any()]
    return with_legend(blended, [names[i] for i in present], [colors[i] for i in present])


def heat(values: np.ndarray) -> np.ndarray:
    """Values (H, W) from 0, black, over red to 1, white, as uint8 (H, W, 3)."""
    return cv2.applyColorMap((values.clip(0, 1) * 255).astype(np.uint8), cv2.COLORMAP_HOT)[
        ..., ::-1
    ]


def legend_of(
    masks: torch.Tensor, names: Sequence[str], colors: Sequence[Sequence[int]]
) -> tuple[Sequence[str], Sequence[Sequence[int]]]:
    """Names and colours for the legend of these masks: the classes, and white where pixels are ignored."""
    return (
        ([*names, "ignored"], [*colors, (255, 255, 255)])
        if (masks == IGNORE).any()
        else (names, colors)
    )


def headed(captions: Sequence[str], width: int) -> np.ndarray:
    """A strip uint8 (h, W, 3) with a caption over each column of that width."""
    times = lettering(width * len(captions))
    strip = Image.new("RGB", (width * len(captions), CAPTION * times), "white")
    draw = ImageDraw.Draw(strip)
    for i, caption in enumerate(captions):
        draw.text(
            (i * width + 4, 1), caption, fill="black", font=ImageFont.load_default(size=16 * times)
        )
    return np.array(strip)


def errors(image: np.ndarray, mask: np.ndarray, pred: np.ndarray) -> np.ndarray:
    """The picture in grey, with wrong pixels in orange, which also the colour-blind tell from grey, and ignored ones white."""
    picture = np.repeat(image.mean(axis=2, keepdims=True).astype(np.uint8) // 2 + 60, 3, axis=2)
    picture[(pred != mask) & (mask != IGNORE)] = (255, 140, 0)
    picture[mask == IGNORE] = 255
    return picture


def enlargement(width: int) -> int:
    """How many times a picture is drawn larger, so that small ones can be looked at."""
    return max(1, round(256 / width))


def sheet(
    rows: Sequence[Sequence[np.ndarray]],
    names: Sequence[str],
    colors: Sequence[Sequence[int]],
    captions: Sequence[str],
    titles: Sequence[str] = (),
) -> np.ndarray:
    """Rows of pictures of one size with white lines between them, small ones enlarged, under captions of the columns, over the legend; titles are the rows'."""
    times = enlargement(rows[0][0].shape[1])
    framed = [
        np.concatenate(
            [
                np.pad(
                    np.kron(picture, np.ones((times, times, 1), np.uint8)),
                    ((2, 2), (2, 2), (0, 0)),
                    constant_values=255,
                )
                for picture in row
            ],
            axis=1,
        )
        for row in rows
    ]
    width = framed[0].shape[1]
    if titles:
        framed = [
            np.concatenate([headed([title], width), row]) for title, row in zip(titles, framed)
        ]
    return with_legend(
        np.concatenate([headed(captions, width // len(captions)), *framed]), names, colors
    )


def draw_learning(path: Path, folder: Path, size: tuple[int, int], count: int) -> None:
    """Image, mask, and how the prediction came about: the third column of up to four of the step_*.png in folder, side by side."""
    steps = sorted(folder.glob("step_*.png"))
    steps = (
        [steps[i] for i in sorted({round(i) for i in np.linspace(0, len(steps) - 1, 4)})]
        if steps
        else []
    )
    sheets = [np.array(Image.open(step).convert("RGB")) for step in steps]
    if len({one.shape for one in sheets}) != 1:  # taken away, or drawn by an earlier version
        return
    high, wide = (side * enlargement(size[1]) + 4 for side in size)  # of a cell, as sheet made it
    top = CAPTION * lettering(3 * wide)
    rows = slice(top, top + count * high)
    cells = np.concatenate(
        [sheets[0][rows, : 2 * wide], *(one[rows, 2 * wide : 3 * wide] for one in sheets)], axis=1
    )
    captions = [
        "image",
        "mask",
        *(f"step {int(step.stem.removeprefix('step_'))}" for step in steps),
    ]
    narrow = min(wide, 260)  # large pictures are shrunk, for all of it to be seen at once
    cells = resize_image(cells, (len(cells) * narrow // wide, narrow * len(captions)))
    key = sheets[-1][rows.stop :]
    larger = lettering(narrow * len(captions)) // lettering(3 * wide) or 1
    key = resize_image(key, (len(key) * larger, key.shape[1] * larger))
    parts = [headed(captions, narrow), cells, key]
    width = max(part.shape[1] for part in parts)
    save_picture(
        path,
        np.concatenate(
            [
                np.pad(part, ((0, 0), (0, width - part.shape[1]), (0, 0)), constant_values=255)
                for part in parts
            ]
        ),
    )


def sample_sheet(
    samples: Sequence[tuple[torch.Tensor, torch.Tensor]],
    names: Sequence[str],
    colors: Sequence[Sequence[int]],
) -> np.ndarray:
    """Image and mask side by side, two pairs in a row."""
    cells = [
        picture
        for image, mask in samples
        for picture in (image.permute(1, 2, 0).numpy(), color_mask(mask.numpy(), colors))
    ]
    masks = torch.stack([mask for _, mask in samples])
    return sheet(
        [cells[i : i + 4] for i in range(0, len(cells) - 3, 4)],
        *legend_of(masks, names, colors),
        ["image", "mask", "image", "mask"],
    )


def new_figure(width: float, height: float):
    from matplotlib.figure import Figure  # slow to import; inference.py never needs it

    return Figure(figsize=(width, height), layout="constrained")


def save_figure(path: Path, figure) -> None:
    write_atomic(path, lambda file: figure.savefig(file, format="png", dpi=100))


def draw_curves(path: Path, history: Sequence[dict], rates: Sequence[float], best: int) -> None:
    """Loss, pixel accuracy and mean IoU of training and validation, and the learning rate, against the step; best is the step that is kept."""
    steps = [row["step"] for row in history]
    score = history[steps.index(best)]["val_mean_iou"]
    figure = new_figure(12, 7)
    *kinds, last = figure.subplots(2, 2, sharex=True).flat
    for axes, kind in zip(kinds, ("loss", "pixel_accuracy", "mean_iou")):
        for split, style, name in (("train", "C0o-", "training"), ("val", "C1s-", "validation")):
            axes.plot(
                steps, [row[f"{split}_{kind}"] for row in history], style, markersize=4, label=name
            )
        axes.set(title=kind.replace("_", " ").replace("iou", "IoU"))
    last.plot(range(1, len(rates) + 1), rates, color="black")
    last.set(title="learning rate", ylim=(0, None))
    for axes in (*kinds, last):
        axes.axvline(
            best,
            color="grey",
            linestyle=":",
            label=f"kept: step {best}, validation mean IoU {score:.3f}",
        )
        axes.set(xlabel="step")
        axes.tick_params(labelbottom=True)
        axes.grid(alpha=0.3)
    figure.legend(*kinds[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    save_figure(path, figure)


def draw_learning_rate(path: Path, rates: Sequence[float]) -> None:
    """The learning rate of every step, the first being step 1."""
    figure = new_figure(6, 3.2)
    axes = figure.subplots()
    axes.plot(range(1, len(rates) + 1), rates)
    axes.set(xlabel="step", title="learning rate", ylim=(0, None))
    axes.grid(alpha=0.3)
    save_figure(path, figure)


def draw_classes(path: Path, classes: Sequence[dict], split: str) -> None:
    """Each class's IoU beside its share of the pixels, the weakest on top."""
    ranked = sorted(
        (entry for entry in classes if entry["iou"] is not None), key=lambda entry: -entry["iou"]
    )
    figure = new_figure(9, 1.2 + 0.28 * len(ranked))
    left, right = figure.subplots(1, 2, sharey=True)
    mean = sum(entry["iou"] for entry in ranked) / max(1, len(ranked))
    for axes, key, color, title in (
        (left, "iou", "C0", f"IoU on {split}, mean {mean:.3f}"),
        (right, "share", "grey", f"% of {split}'s pixels"),
    ):
        values = [entry[key] * (100 if key == "share" else 1) for entry in ranked]
        bars = axes.barh([entry["name"] for entry in ranked], values, color=color)
        axes.bar_label(
            bars,
            [f"{value:.2f}" if key == "iou" else f"{value:.1f}" for value in values],
            padding=3,
        )
        axes.set(title=title)
        axes.margins(x=0.15)
        axes.spines[["top", "right"]].set_visible(False)
    left.set(xlim=(0, 1.1), xticks=np.linspace(0, 1, 6))
    save_figure(path, figure)


def draw_confusion(path: Path, counts: torch.Tensor, names: Sequence[str], split: str) -> None:
    """Each true class's pixels by the class they were taken for, in per cent of the row; a row without pixels is grey."""
    shares = (
        (counts / counts.sum(1, keepdim=True) * 100).cpu().numpy()
    )  # NaN in a row without pixels
    side = 3 + 0.42 * len(names)
    figure = new_figure(side + 1, side)
    axes = figure.subplots()
    axes.set_facecolor("lightgrey")
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
    axes.set(
        xticks=range(len(names)),
        yticks=range(len(names)),
        xlabel="predicted",
        ylabel="true",
        title=f"{split}: % of each true class's pixels (empty: below 0.5)",
    )
    axes.set_xticklabels(names, rotation=90, fontsize=11)
    axes.set_yticklabels(names, fontsize=11)
    axes.set_xticks(np.arange(len(names)) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(names)) + 0.5, minor=True)
    axes.grid(which="minor", color="lightgrey", linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    for i, row in enumerate(shares.tolist()):
        for j, share in enumerate(row):
            if share >= 0.5:
                axes.text(
                    j,
                    i,
                    f"{share:.0f}",
                    ha="center",
                    va="center",
                    fontsize=10,
                    color="white" if share > 60 else "black",
                )
    save_figure(path, figure)
