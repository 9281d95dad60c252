"""U-Net, after Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation" (2015).

    RGB 0..255                                                                             logits
        |  scale, pad                                                                 crop   ^
        v                                                                                    |
    DoubleConv  64 ─────────────────────── skip ───────────────────────> cat ─> DoubleConv 64 ─> 1×1
        | max pool                                                        ^ up, ×2
        v                                                                 |
      DoubleConv 128 ───────────────────── skip ─────────────────> cat ─> DoubleConv 128
          | max pool                                                ^ up
          v                                                         |
        DoubleConv 256 ─────────────────── skip ───────────> cat ─> DoubleConv 256
            | max pool                                        ^ up
            v                                                 |
          DoubleConv 512 ───────────────── skip ─────> cat ─> DoubleConv 512
              | max pool                                ^ up
              v                                         |
              └────────────> DoubleConv 1024 ───────────┘

The way down trades place for meaning: each level sees twice as far with twice the channels. The way up brings the place back:
each level is joined by the skip that left the way down at the same size, so that an edge can be drawn where it was seen.

What differs from the paper, and why (`padded=False` and the other options bring back what others chose):
- Convolutions are padded, so each level keeps its size; the paper's lose a pixel on every side, 92 in all.
- Batch normalisation follows each convolution: without it a net this deep needs a careful start and a small learning rate.
- Dropout may follow every convolution; the paper has it at the end of the way down only.
- Scaling lives inside, with the weights: RGB 0..255 goes in, and nobody can forget it or do it otherwise at prediction time.
- Any size goes in: the picture is padded to what the net needs, and the logits are cropped back.
- With patch=2 the net takes each square of 2×2 pixels as one with 12 colours, and gives back 2×2 pixels for each: no detail is lost at
  either end, for a fourth of the work (Shi et al., 2016, have the same on the way out).
- Two classes need one output z; the logits are then (0, z), for which softmax cross entropy is the same as sigmoid and BCE on z.

UNet++ (NestedUNet) has the same way down; its way up starts at every level, so that each skip is worked on before it is joined.

    python model.py [recipes/NAME.py] [name=value …]     the stages with shapes, parameters and GFLOP
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

RGB_MEAN = (
    123.7,
    116.3,
    103.5,
)  # of ImageNet's pictures, in 0..255: near enough for any photograph
RGB_STD = (58.4, 57.1, 57.4)
ACTIVATIONS = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU}


class DoubleConv(nn.Sequential):
    """Twice: 3×3 convolution, batch norm, activation, dropout. Padded, the size stays; else it shrinks by 4. The channels change."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dropout: float | Sequence[float] = 0.0,
        bias: bool = True,
        activation: str = "relu",
        padded: bool = True,
    ):
        layers: list[nn.Module] = []
        shares = (dropout, dropout) if isinstance(dropout, (int, float)) else dropout
        for channels, share in zip((in_channels, out_channels), shares, strict=True):
            layers += [
                nn.Conv2d(channels, out_channels, kernel_size=3, padding=int(padded), bias=bias),
                nn.BatchNorm2d(out_channels),
                ACTIVATIONS[activation](inplace=True),
            ]
            if (
                share > 0
            ):  # before or after the activation is the same: both leave 0 at 0 and scale with what comes in
                layers.append(nn.Dropout(share))
        super().__init__(*layers)


def make_shrink(channels: int, down: str, activation: str) -> nn.Module:
    """Halves the sides: the largest of four pixels, or a convolution that learns what to keep."""
    if down == "pool":
        return nn.MaxPool2d(2)
    return nn.Sequential(
        nn.Conv2d(channels, channels, kernel_size=3, stride=2, padding=1),
        ACTIVATIONS[activation](inplace=True),
    )


def make_grow(in_channels: int, out_channels: int, up: str) -> nn.Module:
    """Doubles the sides: a learnt 2×2 patch for each pixel, or the pixel four times."""
    if up == "transposed":
        return nn.ConvTranspose2d(in_channels, out_channels, kernel_size=2, stride=2)
    # A 1×1 convolution gives the same before or after pixels are repeated; before, it has a quarter of the work.
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size=1),
        nn.Upsample(scale_factor=2, mode="nearest"),
    )


def crop_to(skip: torch.Tensor, peer: torch.Tensor) -> torch.Tensor:
    """The middle of skip, as large as peer."""
    (height, width), (h, w) = skip.shape[-2:], peer.shape[-2:]
    top, left = (height - h) // 2, (width - w) // 2
    return skip[..., top : top + h, left : left + w]


def pad(x: torch.Tensor, rows: tuple[int, int], columns: tuple[int, int]) -> torch.Tensor:
    """Add rows above and below and columns left and right: the picture's mirror image, or where it is too small for that its border."""
    for sides, size in (((*columns, 0, 0), x.shape[-1]), ((0, 0, *rows), x.shape[-2])):
        if any(sides):
            x = F.pad(x, sides, mode="reflect" if max(sides) < size else "replicate")
    return x


class UNet(nn.Module):
    """One DoubleConv per entry of `features` on the way down, a bottleneck of twice the last, and the same way up again."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        features: Sequence[int] = (64, 128, 256, 512),
        dropout: float | Sequence[float] = 0.0,
        bias: bool = True,
        activation: str = "relu",
        padded: bool = True,
        down: str = "pool",
        up: str = "transposed",
        deep_supervision: bool = False,
        patch: int = 1,
    ):
        super().__init__()
        for name, value, choices in (
            ("activation", activation, ACTIVATIONS),
            ("down", down, ("pool", "conv")),
            ("up", up, ("transposed", "nearest")),
        ):
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; expected {' or '.join(choices)}")
        if patch < 1 or patch > 1 and not padded:
            raise ValueError(f"patch is {patch}; expected 1 or more, and 1 where padded is False")
        if num_classes < 2:
            raise ValueError(
                f"num_classes is {num_classes}; expected at least 2, the background being one of them"
            )
        self.num_classes, self.padded, self.deep_supervision, self.patch = (
            num_classes,
            padded,
            deep_supervision,
            patch,
        )
        mean, std = (
            (RGB_MEAN, RGB_STD)
            if in_channels == 3
            else ([127.5] * in_channels, [60.0] * in_channels)
        )
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

        block = partial(
            DoubleConv, dropout=dropout, bias=bias, activation=activation, padded=padded
        )
        self.downs = nn.ModuleList(
            block(above, width)
            for above, width in zip([in_channels * patch**2, *features], features)
        )
        self.shrinks = nn.ModuleList(make_shrink(width, down, activation) for width in features)
        self.bottleneck = block(features[-1], 2 * features[-1])
        self.make_way_up([*features, 2 * features[-1]], block, up)
        for module in self.modules():
            if isinstance(
                module, nn.Conv2d
            ):  # the paper's section 3: a spread of √(2/N) keeps the signal's size through ReLU
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def make_way_up(self, widths: list[int], block, up: str) -> None:
        if self.deep_supervision:
            raise ValueError(
                "deep_supervision is True; only unet++ has more than one output to supervise"
            )
        steps = list(
            zip(widths[:0:-1], widths[-2::-1])
        )  # (channels below, channels of this level), from the bottom to the top
        self.ups = nn.ModuleList(make_grow(below, width, up) for below, width in steps)
        self.joins = nn.ModuleList(block(2 * width, width) for _, width in steps)
        self.head = self.make_head(widths[0])

    def make_head(self, width: int) -> nn.Conv2d:
        return nn.Conv2d(
            width, (1 if self.num_classes == 2 else self.num_classes) * self.patch**2, kernel_size=1
        )

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        """The U by itself: scaled pictures, folded (B, C · patch², H / patch, W / patch), of a size that can be halved level by level; padded, it gives that size back."""
        skips = []
        for down, shrink in zip(self.downs, self.shrinks):
            skips.append(down(x))  # (B, features[i], H / 2^i, W / 2^i)
            x = shrink(skips[-1])
        x = self.bottleneck(x)
        for up, join, skip in zip(self.ups, self.joins, reversed(skips)):
            x = up(x)
            x = join(torch.cat([crop_to(skip, x), x], dim=1))
        return self.head(x)

    def multiple(self) -> int:
        """What a side is divided by on the way down."""
        return self.patch * 2 ** len(self.downs)

    def margin(self, size: int) -> tuple[int, int]:
        """Pixels to add before and after a side, so that all of it comes out of the U."""
        multiple = self.multiple()
        if self.padded:
            return 0, -size % multiple
        lost = (
            6 * multiple - 4
        )  # on either end: 2 pixels in every DoubleConv, each as large as its level's
        return lost, lost + (4 - size) % multiple

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W), uint8 or float in 0..255, any H and W; returns logits, float32 (B, K, H, W)."""
        height, width = images.shape[-2:]
        x = (images.float() - self.mean) / self.std
        x = pad(x, self.margin(height), self.margin(width))
        x = F.pixel_shuffle(
            self.inner(F.pixel_unshuffle(x, self.patch)), self.patch
        )  # a square's pixels to channels of one, and back
        logits = x[..., :height, :width].float()
        if self.num_classes == 2:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return logits


class NestedUNet(UNet):
    """UNet++ (Zhou et al., 2018): node X(i, j) joins all nodes before it on its level i with the one below, X(i+1, j-1), enlarged.

    X(i, 0) is the way down. With deep supervision every X(0, j) has a head of its own: in training forward returns the logits of
    all of them one after the other, (heads · B, K, H, W), and the loss takes each against the same masks; else their mean.
    """

    def make_way_up(self, widths: list[int], block, up: str) -> None:
        if not self.padded:
            raise ValueError(
                "padded is False; unet++ joins nodes that convolutions without padding would leave at different sizes"
            )
        self.levels = len(widths) - 1
        self.nodes = [(i, j) for j in range(1, self.levels + 1) for i in range(self.levels + 1 - j)]
        self.ups = nn.ModuleDict(
            {f"{i}_{j}": make_grow(widths[i + 1], widths[i], up) for i, j in self.nodes}
        )
        self.joins = nn.ModuleDict(
            {f"{i}_{j}": block((j + 1) * widths[i], widths[i]) for i, j in self.nodes}
        )
        self.heads = nn.ModuleList(
            self.make_head(widths[0]) for _ in range(self.levels if self.deep_supervision else 1)
        )

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        rows = []  # rows[i][j] is X(i, j)
        for down, shrink in zip(self.downs, self.shrinks):
            rows.append([down(x)])
            x = shrink(rows[-1][0])
        rows.append([self.bottleneck(x)])
        for i, j in self.nodes:
            up = self.ups[f"{i}_{j}"](rows[i + 1][j - 1])
            rows[i].append(self.joins[f"{i}_{j}"](torch.cat([*rows[i], up], dim=1)))
        logits = [head(node) for head, node in zip(self.heads, rows[0][-len(self.heads) :])]
        return torch.cat(logits) if self.training else torch.stack(logits).mean(0)


ARCHITECTURES = {"unet": UNet, "unet++": NestedUNet}


def build_model(architecture: str, **arguments) -> nn.Module:
    """The net that a checkpoint or train.py's constants describe."""
    if architecture not in ARCHITECTURES:
        raise ValueError(
            f"architecture is {architecture!r}; expected one of {', '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[architecture](**arguments)


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def print_stages(model: nn.Module, height: int, width: int) -> None:
    """Each part with its output's shape, its parameters and its work on one picture."""
    from torch.utils.flop_counter import FlopCounterMode

    model = model.to("meta").eval()  # shapes without numbers: nothing is computed
    parts = {}
    for name, part in model.named_children():
        inside = (
            part.named_children()
            if isinstance(part, (nn.ModuleList, nn.ModuleDict))
            else [("", part)]
        )
        parts |= {
            f"{name}.{key}".rstrip("."): child for key, child in inside if count_parameters(child)
        }
    shapes: dict[str, tuple] = {}
    for name, part in parts.items():
        part.register_forward_hook(
            lambda _, __, out, name=name: shapes.update({name: tuple(out.shape[1:])})
        )
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, model.mean.shape[1], height, width, dtype=torch.uint8, device="meta"))
    work = {name: sum(count.values()) / 1e9 for name, count in counter.get_flop_counts().items()}

    print(f"{'stage':<12} {'channels × height × width':>26} {'parameters':>12} {'GFLOP':>8}")
    for name, shape in shapes.items():  # in the order of the forward pass
        flop = work[f"{type(model).__name__}.{name}"]
        print(
            f"{name:<12} {' × '.join(map(str, shape)):>26} {count_parameters(parts[name]):>12,} {flop:>8.2f}"
        )
    print(
        f"{'all':<12} {f'{height} × {width} picture':>26} {count_parameters(model):>12,} {counter.get_total_flops() / 1e9:>8.2f}"
    )


def main() -> None:
    import dataset  # the class table; it and train.py's constants come later in reading order, and only this report needs them
    import train

    train.check_settings()
    table = dataset.open_source(train.dataset, train.data_dir).table()
    print_stages(build_model(**train.model_arguments(len(table.names))), *train.image_size)


if __name__ == "__main__":
    import train
    import utils

    utils.run_script(vars(train), main)
