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

What differs from the paper, and why:
- Convolutions are padded, so the logits are as large as the picture; the paper's lose a border of 92 pixels on each side.
- Batch normalisation follows each convolution: without it a net this deep needs a careful start and a small learning rate.
- Dropout may follow every convolution; the paper has it at the end of the way down only.
- Scaling lives inside, with the weights: RGB 0..255 goes in, and nobody can forget it or do it otherwise at prediction time.
- Any size goes in: the picture is padded to a multiple of 2^levels, and the logits are cropped back.
- Two classes need one output z; the logits are then (0, z), for which softmax cross entropy is the same as sigmoid and BCE on z.

    python model.py [recipes/NAME.py] [name=value …]     the stages with shapes, parameters and GFLOP
"""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

RGB_MEAN = (123.7, 116.3, 103.5)  # of ImageNet's pictures, in 0..255: near enough for any photograph
RGB_STD = (58.4, 57.1, 57.4)


class DoubleConv(nn.Sequential):
    """Twice: 3×3 convolution, batch norm, ReLU, dropout. The size stays, the channels change."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0):
        layers: list[nn.Module] = []
        for channels in (in_channels, out_channels):
            layers += [nn.Conv2d(channels, out_channels, kernel_size=3, padding=1), nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
        super().__init__(*layers)


class UNet(nn.Module):
    """One DoubleConv per entry of `features` on the way down, a bottleneck of twice the last, and the same way up again."""

    def __init__(self, num_classes: int, in_channels: int = 3, features: Sequence[int] = (64, 128, 256, 512), dropout: float = 0.0):
        super().__init__()
        if num_classes < 2:
            raise ValueError(f"num_classes is {num_classes}; expected at least 2, the background being one of them")
        self.num_classes = num_classes
        mean, std = (RGB_MEAN, RGB_STD) if in_channels == 3 else ([127.5] * in_channels, [60.0] * in_channels)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

        bottom = 2 * features[-1]
        self.downs = nn.ModuleList(DoubleConv(above, width, dropout) for above, width in zip([in_channels, *features], features))
        self.bottleneck = DoubleConv(features[-1], bottom, dropout)
        self.ups = nn.ModuleList(nn.ConvTranspose2d(below, width, kernel_size=2, stride=2)
                                 for below, width in zip([bottom, *features[::-1]], features[::-1]))
        self.joins = nn.ModuleList(DoubleConv(2 * width, width, dropout) for width in features[::-1])
        self.head = nn.Conv2d(features[0], 1 if num_classes == 2 else num_classes, kernel_size=1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):  # the paper's section 3: a spread of √(2/N) keeps the signal's size through ReLU
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, C, H, W), uint8 or float in 0..255, any H and W; returns logits, float32 (B, K, H, W)."""
        height, width = images.shape[-2:]
        multiple = 2 ** len(self.downs)
        x = (images.float() - self.mean) / self.std
        x = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")

        skips = []
        for down in self.downs:
            x = down(x)  # (B, features[i], H / 2^i, W / 2^i)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottleneck(x)
        for up, join, skip in zip(self.ups, self.joins, reversed(skips)):
            x = join(torch.cat([skip, up(x)], dim=1))

        logits = self.head(x)[..., :height, :width].float()
        if self.num_classes == 2:
            logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
        return logits


ARCHITECTURES = {"unet": UNet}


def build_model(architecture: str, **arguments) -> nn.Module:
    """The net that a checkpoint or train.py's constants describe."""
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture is {architecture!r}; expected one of {', '.join(ARCHITECTURES)}")
    return ARCHITECTURES[architecture](**arguments)


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def print_stages(model: nn.Module, height: int, width: int) -> None:
    """Each part with its output's shape, its parameters and its work on one picture."""
    from torch.utils.flop_counter import FlopCounterMode

    model = model.to("meta").eval()  # shapes without numbers: nothing is computed
    parts = {name: part for name, part in model.named_modules() if name and isinstance(part, (DoubleConv, nn.ConvTranspose2d))}
    parts["head"] = model.head
    shapes: dict[str, tuple] = {}
    for name, part in parts.items():
        part.register_forward_hook(lambda _, __, out, name=name: shapes.update({name: tuple(out.shape[1:])}))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, model.mean.shape[1], height, width, dtype=torch.uint8, device="meta"))
    work = {name: sum(count.values()) / 1e9 for name, count in counter.get_flop_counts().items()}

    print(f"{'stage':<12} {'channels × height × width':>26} {'parameters':>12} {'GFLOP':>8}")
    for name, shape in shapes.items():  # in the order of the forward pass
        flop = work[f"{type(model).__name__}.{name}"]
        print(f"{name:<12} {' × '.join(map(str, shape)):>26} {count_parameters(parts[name]):>12,} {flop:>8.2f}")
    print(f"{'all':<12} {f'{height} × {width} picture':>26} {count_parameters(model):>12,} {counter.get_total_flops() / 1e9:>8.2f}")


def main() -> None:
    import dataset  # the class table; it and train.py's constants come later in reading order, and only this report needs them
    import train

    train.check_settings()
    table = dataset.open_source(train.dataset, train.data_dir).table()
    model = build_model(train.architecture, num_classes=len(table.names), features=train.features, dropout=train.dropout)
    print_stages(model, *train.image_size)


if __name__ == "__main__":
    import train
    import utils

    utils.run_script(vars(train), main)
