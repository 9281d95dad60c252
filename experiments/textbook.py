"""Semantic segmentation on one page: data, net, loss, step, score. Read it before the five files.

    python experiments/textbook.py     1,232 steps on Streets; mean IoU 0.766 with this seed

It is right as far as it goes, though it scores masks at the size it trains at. What more there is:

    model.py      pictures of any size, UNet++; scaling that travels with the weights
    dataset.py    data of your own, checked and cached, more augmentation: toolbox/sources, cache.py
    utils.py      losses for small classes, a learning rate that falls, weights saved and loaded
    train.py      the best weights kept, going on after a stop, GPUs: toolbox/runs.py, machine.py
    inference.py  masks of new pictures, large ones too, as files: toolbox/tiles.py, colouring.py
"""

import subprocess
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn, optim
from torchvision.transforms.functional import pil_to_tensor, to_tensor

FOLDER = Path("Dataset/streets")
CLASSES = ["sky", "building", "vegetation", "road", "pavement", "pole", "sign", "car", "person"]
IGNORE = 255  # what a mask holds where nobody knows the class
SIZE = (128, 80)  # width and height: multiples of 8, as the net halves them three times
TRAIN, TEST = 350, 75  # pictures; the 75 between are for choosing constants, which nobody does here
EPOCHS, BATCH_SIZE = 14, 4


class StreetsDataset(torch.utils.data.Dataset):
    """Pictures and their masks, by file name; each is read again whenever it is asked for."""

    def __init__(self, names: list[str], flip: bool):
        self.names, self.flip = names, flip

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Image float32 (3, H, W) in 0..1, and mask int64 (H, W) of class ids."""
        with Image.open(FOLDER / "images" / self.names[index]) as file:
            image = to_tensor(file.resize(SIZE, Image.BILINEAR))  # (3, H, W)
        with Image.open(FOLDER / "masks" / self.names[index]) as file:
            # Picked, never mixed: the mean of two class ids would be a third class.
            mask = pil_to_tensor(file.resize(SIZE, Image.NEAREST))  # (1, H, W)
        if self.flip and torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        return image, mask[0].long()


def double_conv(before: int, after: int) -> nn.Sequential:
    """Twice a 3×3 convolution, batch norm and ReLU: (B, before, H, W) to (B, after, H, W)."""
    first = [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    second = [nn.Conv2d(after, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*first, *second)


class UNet(nn.Module):
    """Down to learn what is seen, up to say where. Each of features is twice the one before it."""

    def __init__(self, classes: int, features: tuple[int, ...] = (16, 32, 64)):
        super().__init__()
        self.downs, self.ups, self.joins = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for before, width in zip((3, *features), features):  # 3 and 16, 16 and 32, 32 and 64
            self.downs.append(double_conv(before, width))
        self.bottleneck = double_conv(features[-1], 2 * features[-1])
        for width in reversed(features):
            self.ups.append(nn.ConvTranspose2d(2 * width, width, kernel_size=2, stride=2))
            self.joins.append(double_conv(2 * width, width))
        self.head = nn.Conv2d(features[0], classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, H, W) to logits, a score for each class at each pixel, (B, K, H, W)."""
        skips = []
        for down in self.downs:
            skips.append(down(x))  # (B, features[i], H / 2^i, W / 2^i)
            x = nn.functional.max_pool2d(skips[-1], 2)  # half the height, half the width
        x = self.bottleneck(x)  # (B, 128, H / 8, W / 8), with features as above
        for up, join in zip(self.ups, self.joins):
            x = join(torch.cat([skips.pop(), up(x)], dim=1))  # (B, features[i], H / 2^i, W / 2^i)
        return self.head(x)  # (B, K, H, W)


def train_step(model: UNet, optimizer: optim.Optimizer, images: Tensor, masks: Tensor) -> float:
    """Move every weight a little to where this batch's loss is lower; returns that loss."""
    model.train()
    logits = model(images)  # (B, K, H, W)
    loss = nn.functional.cross_entropy(logits, masks, ignore_index=IGNORE)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@torch.no_grad()
def predict(model: UNet, image: Tensor) -> Tensor:
    """The likeliest class of each pixel of one picture: (3, H, W) to (H, W)."""
    model.eval()
    return model(image.unsqueeze(0))[0].argmax(dim=0)  # of (K, H, W)


def class_ious(model: UNet, dataset: StreetsDataset) -> Tensor:
    """Of the pixels that are a class, or are taken for it, the share that is both: (K,)."""
    confusion = torch.zeros(len(CLASSES), len(CLASSES), dtype=torch.int64)  # [true, predicted]
    for image, mask in dataset:  # until names has no more
        known = mask != IGNORE
        cells = mask[known] * len(CLASSES) + predict(model, image)[known]  # numbered row by row
        confusion += torch.bincount(cells, minlength=confusion.numel()).view_as(confusion)
    hits = confusion.diag()
    return hits / (confusion.sum(dim=0) + confusion.sum(dim=1) - hits)


def main() -> None:
    if not FOLDER.exists():
        subprocess.run([sys.executable, "Dataset/make_streets.py"], check=True)
    torch.manual_seed(0)
    names = sorted(path.name for path in (FOLDER / "images").iterdir())
    train_set = StreetsDataset(names[:TRAIN], flip=True)
    batches = torch.utils.data.DataLoader(train_set, BATCH_SIZE, shuffle=True)
    model = UNet(len(CLASSES))
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    for epoch in range(EPOCHS):
        total = 0.0
        for images, masks in batches:
            total += train_step(model, optimizer, images, masks)
        print(f"epoch {epoch + 1}: loss {total / len(batches):.3f}")
    ious = class_ious(model, StreetsDataset(names[-TEST:], flip=False))
    for name, iou in zip(CLASSES, ious):
        print(f"{name:<10} {iou:.3f}")
    print(f"mean IoU   {ious.nanmean():.3f}")


if __name__ == "__main__":
    main()
