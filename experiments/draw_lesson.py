"""Draws the pictures of docs/lesson.md and prints the numbers that stand beside them there; and the
README's picture.

python experiments/draw_lesson.py [checkpoint=TrainingOutput/RUN/best.pth]

The lesson names the command of the run that its pictures are drawn from.
"""

import random
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.patches import Rectangle
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from toolbox.machine import Place
from toolbox.masks import resize_image
from toolbox.pictures import color_mask, save_picture, sheet
from toolbox.plots import new_figure
from toolbox.prepared import Data
from toolbox.settings import augmentations_of, pick, read_constants, run_script

import inference
from dataset import make_augment, prepare, read_pair
from utils import ConfusionMatrix, learning_rate, load_checkpoint, make_loss

checkpoint = "unet_model.pth"  # of a U-Net
folder = "docs/pictures"
picture = 15  # of the last split: a street with a thin pole in its middle
thin = "pole"  # the class whose share of the pull is counted
looked_at = (0.5, 0.52)  # where on the picture levels.png looks, as shares of height and width
augmented = 17  # of the training split
shown = (3, 10, 15)  # of the last split: in the README's picture
example = "InferenceOutput/example.png"

FRAMES = ("#ffe119", "#ff7f0e", "#00e5ff", "#ff00ff", "#39ff14")  # colours of the levels

# The example worked by hand: 4×4 pixels of three classes, 255 being ignored.
TRUE = [[0, 1, 0, 255], [0, 1, 0, 0], [0, 1, 2, 2], [0, 1, 2, 2]]
FOUND = [[0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 2, 2], [0, 0, 2, 0]]
NAMES = ("road", "pole", "car")
COLORS = ((128, 64, 128), (200, 100, 0), (20, 30, 200))


def patches(levels: int, row: int, column: int) -> list[tuple[int, int, int]]:
    """Top, left and side of what the number that covers a pixel sees, level by level, of the way
    down; the last is the bottleneck's."""
    side, step = 1, 1  # step: pixels from one number of this level to the next
    found = []
    for _ in range(levels + 1):
        side += 2 * 2 * step  # two 3×3 convolutions, each a number more on either side
        margin = (side - step) // 2
        found.append((row // step * step - margin, column // step * step - margin, side))
        side += step  # the pool takes two
        step *= 2
    return found


def draw_levels(path: Path, image: np.ndarray, levels: int) -> None:
    """The picture with a frame for each level, and below it what is in each frame."""
    row, column = (int(side * share) for side, share in zip(image.shape, looked_at))
    with new_figure(path, 10, 6) as figure:
        grid = figure.add_gridspec(2, levels + 1, height_ratios=(2.4, 1))
        whole = figure.add_subplot(grid[0, :])
        whole.imshow(image, interpolation="nearest")
        whole.axis("off")
        for level, (top, left, side) in enumerate(patches(levels, row, column)):
            color = FRAMES[level % len(FRAMES)]
            corner = (left - 0.5, top - 0.5)
            whole.add_patch(
                Rectangle(corner, side, side, edgecolor=color, fill=False, linewidth=2.5)
            )
            axes = figure.add_subplot(grid[1, level], xticks=[], yticks=[], facecolor="lightgrey")
            axes.imshow(image, interpolation="nearest")
            axes.set(xlim=(left - 0.5, left + side - 0.5), ylim=(top + side - 0.5, top - 0.5))
            axes.spines[:].set(color=color, linewidth=4)
            name = "bottleneck" if level == levels else f"level {level + 1}"
            axes.set_title(f"{name}: {side}×{side}", fontsize=12)


def zero_skip(join: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    """What a join takes: the skip, here put to zero, and as many channels from below."""
    skip, below = inputs[0].chunk(2, dim=1)
    return torch.cat([torch.zeros_like(skip), below], dim=1)


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    return torch.cat([model(some).argmax(1) for some in images.split(8)])


def draw_skips(path: Path, model: nn.Module, data: Data, images: Tensor, masks: Tensor) -> None:
    """A picture predicted with all skips, without each and without any; the split's mean IoU."""
    joins = list(model.joins)[::-1]  # the topmost first
    ways = {"all skips": []}
    for level, join in enumerate(joins, start=1):
        ways[f"without skip {level}"] = [join]
    ways["without any"] = joins
    cells, captions = [images[picture].permute(1, 2, 0).numpy()], ["picture"]
    for name, lost in ways.items():
        hooks = [join.register_forward_pre_hook(zero_skip) for join in lost]
        preds = predict(model, images)
        for hook in hooks:
            hook.remove()
        matrix = ConfusionMatrix(model.num_classes)
        matrix.update(preds, masks)
        mean_iou = matrix.scores()["mean_iou"]
        print(f"{name}: mean IoU {mean_iou:.3f} over {len(images)} pictures of the net's size")
        cells.append(color_mask(preds[picture].numpy(), data.table.colors))
        captions.append(f"{name}: {mean_iou:.2f}")
    save_blocks(path, [cells], captions, data)


def save_blocks(path: Path, rows: list, captions: list[str], data: Data) -> None:
    """Rows of cells below captions, cut in two halves that stand one above the other."""
    half = (len(captions) + 1) // 2
    if len(captions) < 2 * half:
        rows = [[*row, np.full_like(row[0], 255)] for row in rows]
        captions = [*captions, ""]
    upper = sheet([row[:half] for row in rows], [], [], captions[:half])
    lower = [row[half:] for row in rows], data.table.names, data.table.colors, captions[half:]
    save_picture(path, np.concatenate([upper, sheet(*lower)]))


def pull(loss: str, logits: Tensor, masks: Tensor) -> Tensor:
    """How hard a loss pulls at the logits of each pixel of a picture, (H, W), of all its pull."""
    logits = logits.detach().clone().requires_grad_()
    make_loss(loss)(logits, masks).backward()
    strength = logits.grad[0].abs().sum(dim=0)
    return strength / strength.sum()


def draw_pull(path: Path, model: nn.Module, data: Data, image: Tensor, mask: Tensor) -> None:
    """Where cross entropy and Dice pull, at a net that knows nothing and at the trained one."""
    with torch.no_grad():
        logits = model(image[None])
    is_thin = mask == data.table.names.index(thin)
    print(f"{thin}: {is_thin.float().mean():.1%} of the picture's pixels")
    with new_figure(path, 10, 4.4) as figure:
        grid = figure.subplots(2, 3)
        grid[0, 0].imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
        grid[1, 0].imshow(color_mask(mask.numpy(), data.table.colors), interpolation="nearest")
        nets = {"that knows nothing": torch.zeros_like(logits), "trained": logits}
        for row, (net, scores) in zip(grid, nets.items()):
            pulls = {loss: pull(loss, scores, mask[None]) for loss in ("ce", "dice")}
            brightest = max(strength.quantile(0.995).item() for strength in pulls.values())
            for axes, (loss, strength) in zip(row[1:], pulls.items()):
                share = strength[is_thin].sum()
                print(f"net {net}, {loss}: {share:.1%} of the pull is on {thin}")
                axes.imshow(
                    strength.numpy(),
                    cmap="inferno",
                    vmin=0,
                    vmax=brightest,
                    interpolation="nearest",
                )
                axes.set_title(f"{loss}, net {net}: {share:.0%} on {thin}", fontsize=11)
        for axes in grid.flat:
            axes.axis("off")


def draw_augmented(path: Path, data: Data, constants: dict) -> None:
    """A training picture as it is, six times as it may come to the net, and rotated, and masks."""
    size, names, strength, _ = augmentations_of(constants)[-1]
    image, mask = data.read(data.splits["train"][augmented])
    images, masks, captions = [image], [mask], ["as it is"]
    for draw in range(1, 8):
        captions.append(f"draw {draw}" if draw < 7 else "augment=rotate")
        augment = make_augment(size, names if draw < 7 else "rotate", strength)
        augment.set_random_state(np.random.default_rng(draw), random.Random(draw))
        both = augment(image=image, mask=mask)
        images.append(both["image"])
        masks.append(both["mask"])
    rows = [images, [color_mask(mask, data.table.colors) for mask in masks]]
    save_blocks(path, rows, captions, data)


def draw_rates(path: Path, steps: int) -> None:
    """The rate over a run with three base_lr, falling to the run's end or by a fixed factor."""
    floor, warmup = pick(read_constants(), "min_lr warmup_steps")
    with new_figure(path, 10, 3.6) as figure:
        for axes, factor in zip(figure.subplots(1, 2, sharey=True), ("0", "1.2e7")):
            for base in (2e-2, 1e-2, 1e-3):
                rates = []
                for step in range(1, steps + 1):
                    rate = learning_rate(step, base, floor, warmup, float(factor), last_step=steps)
                    rates.append(rate)
                axes.plot(range(1, steps + 1), rates, label=f"base_lr={base}")
                shown = [f"{rates[step - 1]:.1e}" for step in (steps // 4, steps // 2, steps)]
                print(f"decay_factor={factor} base_lr={base}: {', '.join(shown)} at 1/4, 1/2, 1")
            axes.set(title=f"decay_factor={factor}", xlabel="step", yscale="log")
            axes.grid(alpha=0.3)
        figure.axes[0].set(ylabel="learning rate")
        figure.axes[0].legend(loc="lower center")


def matrix_by_hand() -> ConfusionMatrix:
    matrix = ConfusionMatrix(len(NAMES))
    matrix.update(torch.tensor(FOUND), torch.tensor(TRUE))
    return matrix


def draw_matrix(path: Path) -> None:
    """The example's mask and prediction, and the table that counts them."""
    matrix = matrix_by_hand()
    scores = matrix.scores()
    with new_figure(path, 10, 3.6) as figure:
        left, middle, right = figure.subplots(1, 3)
        for axes, ids, title in ((left, TRUE, "mask"), (middle, FOUND, "prediction")):
            axes.imshow(color_mask(np.array(ids), COLORS))
            axes.set(title=title, xticks=[], yticks=[])
            for (i, j), label in np.ndenumerate(ids):
                text, color = ("255", "black") if label == 255 else (NAMES[label], "white")
                axes.text(j, i, text, ha="center", va="center", color=color)
        right.imshow(matrix.counts.numpy(), cmap="Blues", vmax=12)
        for (i, j), count in np.ndenumerate(matrix.counts.numpy()):
            right.text(j, i, count, ha="center", va="center", fontsize=14)
        labels = []
        for name, iou, dice in zip(NAMES, scores["iou"], scores["dice"]):
            labels.append(f"{name}\nIoU {iou:.2f}\nDice {dice:.2f}")
        right.set(title="pixels", ylabel="mask", xlabel="prediction")
        right.set(xticks=range(3), yticks=range(3), xticklabels=NAMES, yticklabels=labels)


def draw_example(path: Path, model: nn.Module, data: Data, size: list[int]) -> None:
    """Pictures, masks and predictions at the pictures' own size."""
    rows, colors = [], data.table.colors
    for i in shown:
        pair = data.pairs[data.splits[list(data.splits)[-1]][i]]
        image, mask = read_pair(pair, data.table.meaning)
        small = resize_image(image, size)[None]
        (found,) = inference.predict(model, [mask.shape], small, Place("cpu", "fp32"))
        rows.append([image, color_mask(mask, colors), color_mask(found.ids, colors)])
    save_picture(path, sheet(rows, data.table.names, colors, ["picture", "mask", "prediction"]))


def main() -> None:
    saved = load_checkpoint(Path(checkpoint))
    inference.checkpoint = checkpoint
    model = inference.load_model(saved, Place("cpu", "fp32"))
    constants = {**read_constants(), **saved["constants"]}
    data = prepare(*pick(constants, "dataset data_dir image_size cache seed"))
    judged = [data.read(row) for row in data.splits[list(data.splits)[-1]]]
    images = torch.from_numpy(np.stack([image for image, _ in judged])).permute(0, 3, 1, 2)
    masks = torch.from_numpy(np.stack([mask for _, mask in judged]))

    where = Path(folder)
    draw_levels(where / "levels.png", judged[picture][0], len(model.downs))
    draw_skips(where / "skips.png", model, data, images, masks)
    draw_pull(where / "pull.png", model, data, images[picture], masks[picture].long())
    draw_augmented(where / "augmented.png", data, constants)
    draw_rates(where / "rates.png", constants["training_iterations"])
    draw_matrix(where / "confusion.png")
    draw_example(Path(example), model, data, saved["image_size"])
    print(f"six pictures are in {where}, and {example}")


if __name__ == "__main__":
    run_script(globals(), main)
