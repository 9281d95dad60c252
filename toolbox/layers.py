"""What nets are made of beside the block: dropout for CPUs, ways to halve and to double, margins,
and what they check."""

from collections.abc import Collection

from toolbox.errors import InputError

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}
RGB_MEAN = (123.7, 116.3, 103.5)  # of ImageNet's pictures, 0..255: near enough for any photograph
RGB_STD = (58.4, 57.1, 57.4)


def check_choice(name: str, value: str, choices: Collection[str]) -> None:
    if value not in choices:
        raise InputError(f"{name} is {value!r}; expected {' or '.join(choices)}")


def check_net(num_classes: int, patch: int, padded: bool, down: str, up: str) -> None:
    """What no net can be built with."""
    check_choice("down", down, ("pool", "conv"))
    check_choice("up", up, ("transposed", "nearest"))
    if num_classes < 2:
        raise InputError(
            f"num_classes is {num_classes}; expected at least 2, the background being one of them"
        )
    if patch < 1 or (patch > 1 and not padded):
        raise InputError(f"patch is {patch}; expected 1 or more, and 1 where padded is False")


def check_architecture(architecture: str, known: Collection[str], arguments: dict) -> None:
    """What one architecture has and the other has not."""
    if architecture not in known:
        raise InputError(f"architecture is {architecture!r}; expected one of {', '.join(known)}")
    if architecture == "unet" and arguments.get("deep_supervision"):
        raise InputError(
            "deep_supervision is True; only unet++ has more than one output to supervise"
        )
    if architecture == "unet++" and not arguments.get("padded", True):
        raise InputError(
            "padded is False; unet++ joins nodes that convolutions without padding would leave at "
            "different sizes"
        )


def activate(name: str) -> nn.Module:
    """The activation of that name, written over what comes in."""
    check_choice("activation", name, ACTIVATIONS)
    return ACTIVATIONS[name](inplace=True)


def start_convolutions(model: nn.Module) -> None:
    """A spread of √(2/N) for N inputs keeps the signal's size through ReLU."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")


# ---- dropout on CPUs ----


class QuickDropout(nn.Dropout):
    """nn.Dropout in a tenth of its time, which on CPUs goes into a random number for each
    activation: here eight share a draw of 64 bits, so that what is dropped is in 128ths."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or x.device.type != "cpu":
            return super().forward(x)
        count = x.numel()
        draws = torch.empty(-(-count // 8), dtype=torch.int64).random_()
        # They are never below 0: one byte of each has 7 bits by chance, so 7 are taken of all.
        numbers = draws.view(torch.uint8)[:count].bitwise_and_(127)
        dropped = min(max(1, round(128 * self.p)), 127)
        keep = numbers.ge_(dropped).to(x.dtype)  # 1 or 0
        keep *= 128 / (128 - dropped)
        order = torch.empty_like(x, device="meta").stride()  # as x lies in memory
        return x * keep.as_strided(x.shape, order)


def quicken_dropout(model: nn.Module) -> None:
    """Put QuickDropout in the place of each nn.Dropout."""
    for block in model.modules():
        for name, module in block.named_children():
            if type(module) is nn.Dropout:
                setattr(block, name, QuickDropout(module.p))


# ---- half the sides, and twice ----


def make_shrink(channels: int, down: str, activation: str = "relu") -> nn.Module:
    """Halves the sides: the largest of four pixels, or a convolution that learns what to keep."""
    if down == "pool":
        return nn.MaxPool2d(2)
    conv = nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1)
    return nn.Sequential(conv, activate(activation))


def make_grow(in_channels: int, out_channels: int, up: str) -> nn.Module:
    """Doubles the sides: a learnt 2×2 patch for each pixel, or the pixel four times."""
    if up == "transposed":
        return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
    # A 1×1 convolution gives the same before or after pixels are repeated; before, for a quarter of
    # the work.
    conv = nn.Conv2d(in_channels, out_channels, kernel_size=1)
    return nn.Sequential(conv, nn.Upsample(scale_factor=2, mode="nearest"))


# ---- pictures of any size ----


def scaling(channels: int) -> tuple[Tensor, Tensor]:
    """Mean and spread of pictures in 0..255, (1, C, 1, 1) each."""
    mean, std = RGB_MEAN, RGB_STD
    if channels != 3:
        mean, std = [127.5] * channels, [60.0] * channels
    return torch.tensor(mean).view(1, -1, 1, 1), torch.tensor(std).view(1, -1, 1, 1)


def margin(size: int, multiple: int, padded: bool) -> tuple[int, int]:
    """Pixels to add before and after a side, so that all of it comes out of a U that divides
    sides by `multiple` on its way down."""
    if padded:
        return 0, -size % multiple
    lost = 6 * multiple - 4  # on either end: 2 pixels in every block, each as large as its level's
    return lost, lost + (4 - size) % multiple


def pad(x: Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> Tensor:
    """Add rows above and below and columns left and right: the picture's mirror image, or where
    it is too small for that its border."""
    if any(columns):
        mode = "reflect" if max(columns) < x.shape[-1] else "replicate"
        x = F.pad(x, (*columns, 0, 0), mode)
    if any(rows):
        mode = "reflect" if max(rows) < x.shape[-2] else "replicate"
        x = F.pad(x, (0, 0, *rows), mode)
    return x


def pad_to_fit(x: Tensor, multiple: int, padded: bool) -> Tensor:
    """Pictures with margins, such that all of them comes out of the U."""
    height, width = x.shape[-2:]
    return pad(x, margin(height, multiple, padded), margin(width, multiple, padded))


def crop_to(skip: Tensor, x: Tensor) -> Tensor:
    """The middle of skip, as large as x; where convolutions are padded, all of it."""
    height, width = x.shape[-2:]
    top = (skip.shape[-2] - height) // 2
    left = (skip.shape[-1] - width) // 2
    return skip[..., top : top + height, left : left + width]


# ---- what is alive when a net predicts ----


def fuse_batch_norm(model: nn.Module) -> None:
    """At rest, batch norm multiplies and shifts each channel: the convolution before it does
    that."""
    for block in model.modules():
        if not isinstance(block, nn.Sequential):
            continue
        for i in range(1, len(block)):
            follows = isinstance(block[i - 1], nn.Conv2d)
            if follows and isinstance(block[i], nn.BatchNorm2d):
                block[i - 1] = fuse_conv_bn_eval(block[i - 1], block[i])
                block[i] = nn.Identity()


def wake_dropout(model: nn.Module) -> bool:
    """Have dropout drop in prediction too; returns whether there is any."""
    quicken_dropout(model)
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    for dropout in dropouts:
        dropout.train()
    return bool(dropouts)
