"""U-Net, after Ronneberger, Fischer and Brox, "U-Net: Convolutional Networks for Biomedical Image
Segmentation" (2015). Drawn with the paper's four levels; the default of train.py has three.

    RGB 0..255                                                              logits
        | scale, pad                                                  crop    ^
        v                                                                     |
    DoubleConv  64 ───────────────── skip ──────────────> cat ─> DoubleConv  64 ─> 1×1
        | max pool                                         ^ up, ×2
        v                                                  |
      DoubleConv 128 ─────────────── skip ────────> cat ─> DoubleConv 128
          | max pool                                 ^ up
          v                                          |
        DoubleConv 256 ───────────── skip ──> cat ─> DoubleConv 256
            | max pool                         ^ up
            v                                  |
          DoubleConv 512 ─── skip ──> cat ─> DoubleConv 512
              | max pool               ^ up
              v                        |
              └───> DoubleConv 1024 ───┘

The way down trades place for meaning: each level sees twice as far, with twice the channels. The
way up brings the place back: each level is joined by the skip that left the way down at its size,
so that an edge can be drawn where it was seen. Skips are concatenated, not added: the DoubleConv
after `cat` has a weight for each channel from either side and learns how to mix them; a sum would
mix them one to one. To add, write `x = skip + x` in inner, and `block(width, width)` for joins.

What differs from the paper: convolutions are padded and keep the size (padded=False brings back
those that lose a pixel on every side); batch norm follows each, else so deep a net needs a careful
start; any size goes in: pictures are padded to what the net needs, logits cropped; and scaling
lives inside, with the weights: RGB 0..255 goes in. Were a picture scaled outside too, to 0..1, each
of its pixels would reach the convolutions as about -2: to the net, all black. patch=2 takes each
square of 2×2 pixels as one with 12 colours, for a fourth of the work (Shi et al., 2016).

    python model.py [recipes/NAME.py] [name=value …]     each stage's shape, parameters and GFLOP
"""

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

from toolbox.layers import (
    activate,
    check_architecture,
    check_net,
    crop_to,
    make_grow,
    make_shrink,
    pad_to_fit,
    scaling,
    start_convolutions,
)
from toolbox.settings import (
    check,
    model_arguments,
    run_with_constants,
)
from toolbox.sources import open_source
from toolbox.stages import print_stages

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Widths = Sequence[int]  # channels of each level


class DoubleConv(nn.Sequential):
    """Twice: 3×3 convolution, batch norm, activation, dropout. Padded, the size stays.

    Another block can stand in its place in UNet, made with the same arguments and padded=True.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dropout: float | Sequence[float] = 0.0,
        bias: bool = True,
        activation: str = "relu",
        padded: bool = True,
    ):
        if isinstance(dropout, (int, float)):
            dropout = (dropout, dropout)
        padding = 1 if padded else 0
        layers = []
        channels = in_channels
        for dropped in dropout:
            layers += [
                nn.Conv2d(channels, out_channels, 3, padding=padding, bias=bias),
                nn.BatchNorm2d(out_channels),
                activate(activation),
            ]
            if dropped > 0:
                layers.append(nn.Dropout(dropped))
            channels = out_channels
        super().__init__(*layers)


class UNet(nn.Module):
    """A DoubleConv for each of `features` down and up, and one below; block_options are theirs."""

    def __init__(
        self,
        num_classes: int,
        in_channels: int = 3,
        features: Widths = (64, 128, 256, 512),
        down: str = "pool",
        up: str = "transposed",
        patch: int = 1,
        deep_supervision: bool = False,
        padded: bool = True,
        **block_options,
    ):
        super().__init__()
        check_net(num_classes, patch, padded, down, up)
        self.num_classes = num_classes
        self.patch = patch
        self.padded = padded
        self.deep_supervision = deep_supervision
        mean, std = scaling(in_channels)
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

        block = partial(DoubleConv, padded=padded, **block_options)
        activation = block_options.get("activation", "relu")
        self.downs = nn.ModuleList()
        self.shrinks = nn.ModuleList()
        channels = in_channels * patch**2
        for width in features:
            self.downs.append(block(channels, width))
            self.shrinks.append(make_shrink(width, down, activation))
            channels = width
        self.bottleneck = block(channels, 2 * channels)
        self.make_way_up([*features, 2 * channels], block, up)
        start_convolutions(self)  # so that the signal keeps its size (the paper's section 3)

    def make_way_up(self, widths: Widths, block: partial, up: str) -> None:
        self.ups = nn.ModuleList()
        self.joins = nn.ModuleList()
        upwards = widths[::-1]
        for below, width in pairwise(upwards):
            self.ups.append(make_grow(below, width, up))
        for width in upwards[1:]:  # not in one loop: a seed would draw other first weights
            self.joins.append(block(2 * width, width))
        self.head = self.make_head(widths[0])

    def make_head(self, width: int) -> nn.Conv2d:
        """A score for each class. Two need one, z: softmax over (0, z) is the sigmoid of z, as
        e^z / (e^0 + e^z) = 1 / (1 + e^-z), so that cross entropy is binary cross entropy on z."""
        scores = 1 if self.num_classes == 2 else self.num_classes
        return nn.Conv2d(width, scores * self.patch**2, kernel_size=1)

    def inner(self, x: Tensor) -> Tensor:
        """The U by itself, of scaled pictures whose sides can be halved level by level."""
        skips = []
        for down, shrink in zip(self.downs, self.shrinks):
            x = down(x)  # (B, features[i], H / 2^i, W / 2^i), where patch is 1
            skips.append(x)
            x = shrink(x)
        x = self.bottleneck(x)
        for up, join in zip(self.ups, self.joins):
            x = up(x)
            skip = crop_to(skips.pop(), x)
            x = torch.cat([skip, x], dim=1)
            x = join(x)
        return self.head(x)

    def multiple(self) -> int:
        """What a side is divided by on the way down."""
        return self.patch * 2 ** len(self.downs)

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W), uint8 or float in 0..255, to logits float32 (B, K, H, W)."""
        height, width = images.shape[-2:]
        x = (images.float() - self.mean) / self.std
        x = pad_to_fit(x, self.multiple(), self.padded)
        x = F.pixel_unshuffle(x, self.patch)  # a square's pixels become channels of one
        x = self.inner(x)
        x = F.pixel_shuffle(x, self.patch)  # and back
        logits = x[..., :height, :width].float()
        if self.num_classes == 2:
            zeros = torch.zeros_like(logits)
            logits = torch.cat([zeros, logits], dim=1)
        return logits


class NestedUNet(UNet):
    """UNet++ (Zhou et al., 2018): a way up from every level, so that each skip is worked on first.

    Node X(i, j) joins all nodes before it on its level i with the one below, X(i+1, j-1), enlarged;
    X(i, 0) is the way down. With deep supervision every X(0, j) has a head of its own: in training
    forward returns the logits of all of them, one after the other (heads · B, K, H, W), and the
    loss takes each against the same masks; else their mean.
    """

    def make_way_up(self, widths: Widths, block: partial, up: str) -> None:
        levels = len(widths) - 1
        self.nodes = []
        self.ups = nn.ModuleDict()
        self.joins = nn.ModuleDict()
        for j in range(1, levels + 1):
            for i in range(levels + 1 - j):
                name = f"{i}_{j}"
                width = widths[i]
                self.nodes.append((i, j))
                self.ups[name] = make_grow(widths[i + 1], width, up)
                self.joins[name] = block((j + 1) * width, width)
        self.heads = nn.ModuleList()
        outputs = levels if self.deep_supervision else 1
        for _ in range(outputs):
            self.heads.append(self.make_head(widths[0]))

    def inner(self, x: Tensor) -> Tensor:
        rows = []  # rows[i][j] is X(i, j)
        for down, shrink in zip(self.downs, self.shrinks):
            x = down(x)
            rows.append([x])
            x = shrink(x)
        rows.append([self.bottleneck(x)])
        ways = zip(self.nodes, self.ups.values(), self.joins.values())
        for (i, j), up, join in ways:
            below = up(rows[i + 1][j - 1])
            nodes = torch.cat([*rows[i], below], dim=1)
            rows[i].append(join(nodes))
        tops = rows[0][-len(self.heads) :]
        logits = [head(node) for head, node in zip(self.heads, tops)]
        if self.training:
            return torch.cat(logits)
        return torch.stack(logits).mean(0)


ARCHITECTURES = {"unet": UNet, "unet++": NestedUNet}


def build_model(architecture: str, **arguments) -> UNet:
    """The net that a checkpoint or train.py's constants describe."""
    check_architecture(architecture, ARCHITECTURES, arguments)
    return ARCHITECTURES[architecture](**arguments)


def main(constants: dict) -> None:
    check(constants)
    source = open_source(constants["dataset"], constants["data_dir"])
    arguments = model_arguments(constants, len(source.table().names))
    print_stages(build_model(**arguments), *constants["image_size"])


if __name__ == "__main__":
    run_with_constants(main)
