"""From files to batches.

    files ── pairs by name, split ──> image uint8 (H, W, 3) RGB, mask uint8 (H, W) class ids
          ── resized once, cached ──> augmented, both together ──> uint8 tensors ──> batches

A mask's file holds ids or colours. The class table turns them into ids 0, 1, 2, … in its own order,
and into 255, IGNORE, for pixels that nobody labelled or that rotation brings into a corner. They
add nothing to a loss and count in no score. It is 255 as that is the last number of a byte, far
from all ids. In a file it may mean the object: where there is only 0 and 255, the table makes it 1.

Which files are pairs, and what their values mean, is said by a source, one for each way that data
sets are laid out. toolbox/sources/camvid.py is the plainest, to copy for another: find_pairs() and
table(), and its name in SOURCES in the __init__.py beside it. Other masks take a method more:

    class Arrays(Folder):  # in toolbox/sources/arrays.py; Folder is in folder.py there
        def read_mask(self, path, meaning=None):  # of masks/NAME.npz; .npy are read as they are
            return np.load(path)["mask"]  # (H, W), numbers that classes.csv explains

    python dataset.py [recipes/NAME.py] [name=value …]     check a data set, draw some samples
"""

import itertools
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from toolbox import prepared
from toolbox.errors import check_parts
from toolbox.machine import leave_signals_to_parent
from toolbox.masks import IGNORE, check_sizes, in_parts, read_image, read_mask, unknown_values
from toolbox.prepared import Data, overview, save_samples
from toolbox.settings import augmentations_of, check, pick, run_with_constants
from toolbox.sources import open_source
from toolbox.sources.base import Pair

import cv2
import numpy as np
import torch
from numpy import ndarray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

ImageAndMask = tuple[ndarray, ndarray]
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # else its import asks the network for a newer version


def read_ids(path: Path, meaning: dict, read_values: Callable = read_mask) -> ndarray:
    """A mask as class ids, uint8 (H, W): its values, ids or colours as numbers, are looked up in
    meaning. What the table doesn't know is an error, never class 0."""
    values = read_values(path, meaning)
    table = np.array(sorted(meaning.items()), np.int32)  # (value, class) in each row
    known, classes = table.T
    ids = np.empty(values.shape, np.uint8)
    unknown = Counter()
    for part, part_ids in in_parts(values, ids):  # rows by rows, for memory
        found = np.searchsorted(known, part)  # where each would stand among those known
        found = np.minimum(found, len(known) - 1)
        is_unknown = known[found] != part
        unknown.update(part[is_unknown].tolist())
        part_ids[:] = classes[found]
    if unknown:
        raise unknown_values(path, unknown)
    return ids


def read_pair(pair: Pair, meaning: dict, read_values: Callable = read_mask) -> ImageAndMask:
    """Image uint8 (H, W, 3) RGB and its mask's class ids uint8 (H, W), at the size on disk."""
    image = read_image(pair.image)
    mask = read_ids(pair.mask, meaning, read_values)
    check_sizes(pair, image, mask)
    return image, mask


def prepare(
    dataset: str, data_dir: str, image_size: Sequence[int], cache=True, seed=0, folds=0
) -> Data:
    """A data set, each of its files read once; all that is wrong with any is said at once. It has
    pairs, the files; splits, the rows of each split; read(row), an image and its ids."""
    source = open_source(dataset, data_dir)
    return prepared.make_ready(source, read_pair, image_size, cache, seed, folds)


def make_augment(size: Sequence[int], names: str, strength: float = 1.0, window=(0, 0)):
    """Random changes that leave the classes what they are; all that comes out is of `size`.

    A window is cut out first, unless it is (0, 0). Geometry moves both together, colour changes the
    image alone; strength is how far. At 1, three of ten are zoomed: at least 0.6 of the area stays.
    """
    import albumentations as A  # slow to import, and judging never needs it

    height, width = size
    nearest = cv2.INTER_NEAREST_EXACT  # ids can't be averaged
    light = (max(0, 1 - 0.2 * strength), 1 + 0.2 * strength)
    known = {
        "zoom": A.RandomResizedCrop(  # as if from nearer by
            (height, width),
            scale=(3 / (3 + 2 * strength), 1),
            ratio=(0.85 * width / height, 1.18 * width / height),
            mask_interpolation=nearest,
            p=min(1, 0.3 * strength),
        ),
        # Where things have no up and down. Half of the time, as it blurs; new corners are IGNORE.
        "rotate": A.Rotate(35, fill_mask=IGNORE, p=0.5),
        "flip": A.HorizontalFlip(p=0.5),  # not where left and right differ: writing, organs
        "vflip": A.VerticalFlip(p=0.1),
        "color": A.ColorJitter(
            brightness=light,
            contrast=light,
            saturation=(max(0, 1 - 0.3 * strength), 1 + 0.3 * strength),
            hue=min(0.5, 0.02 * strength),
            p=1,
        ),
        "grey": A.ToGray(p=0.05),  # a grey picture has the same classes
    }
    chosen = check_parts("augment", names, known, example="flip+color") if names else []
    # What zoom has not brought to that size.
    resize = A.Resize(height, width, interpolation=cv2.INTER_AREA, mask_interpolation=nearest)
    windows = [A.RandomCrop(*window)] if any(window) else []
    return A.Compose([*windows, *chosen, resize])


def part_of(side: int, draw: random.Random) -> slice:
    """0.3 to 0.7 of a side, anywhere on it."""
    length = round(side * draw.uniform(0.3, 0.7))
    start = draw.randint(0, side - length)
    return slice(start, start + length)


@lru_cache(maxsize=2)
def shuffled(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(count)


class SegmentationDataset(Dataset):
    """One split. Without augment, item p is its p-th pair; with it, p is a position in a run that
    has no end: position len(self) is the first of the second epoch. Of a list of augments each has
    `turn` positions, one after the other, so that pictures can grow in the course of a run."""

    def __init__(self, data: Data, split: str, augment=None, seed=0, mix=0.0, turn: int = 1):
        self.data = data
        self.rows = data.splits[split]
        self.augments = augment if isinstance(augment, list) else [augment]
        self.seed, self.mix, self.turn = seed, mix, turn

    def __len__(self) -> int:
        return len(self.rows)

    def row(self, position: int) -> int:
        """The pair at a position: each epoch has every pair once, in an order of its own."""
        count = len(self.rows)
        epoch, place = divmod(position, count)
        order = shuffled(self.seed, epoch, count)
        return self.rows[order[place]]

    def __getitem__(self, position: int) -> tuple[Tensor, Tensor]:
        """Image uint8 (3, H, W) and mask uint8 (H, W)."""
        augment = self.augments[min(position // self.turn, len(self.augments) - 1)]
        if augment is None:
            image, mask = self.data.read(self.rows[position])
        else:
            image, mask = self.changed(position, augment)
            draw = random.Random(f"{self.seed} {position} mix")
            if draw.random() < self.mix:  # CutMix (Yun et al., 2019): things in other surroundings
                other = self.changed(position + draw.randint(1, len(self)), augment)
                rows, columns = part_of(len(mask), draw), part_of(len(mask[0]), draw)
                for array, another in zip((image, mask), other):
                    array[rows, columns] = another[rows, columns]
        image = torch.from_numpy(np.ascontiguousarray(image))  # (H, W, 3)
        mask = torch.from_numpy(np.ascontiguousarray(mask))
        return image.permute(2, 0, 1), mask

    def changed(self, position: int, augment) -> ImageAndMask:
        """A pair as augmentation leaves it. Seeded by the seed and position alone: neither workers
        nor resuming change what is drawn, and no two positions draw alike."""
        image, mask = self.data.read(self.row(position))
        numpys = np.random.default_rng((self.seed, position))
        pythons = random.Random(f"{self.seed} {position}")
        augment.set_random_state(numpys, pythons)
        both = augment(image=image, mask=mask)
        return both["image"], both["mask"]

    def full_mask(self, i: int) -> Tensor:
        """The i-th pair's mask at the size on disk, uint8 (H, W)."""
        pair = self.data.pairs[self.rows[i]]
        ids = read_ids(pair.mask, self.data.table.meaning, self.data.source.read_values)
        return torch.from_numpy(ids)


def stack(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """A batch: images uint8 (B, 3, H, W), channels last in memory as decoders and the net have
    them, and masks uint8 (B, H, W)."""
    images, masks = zip(*samples)
    images = [image.permute(1, 2, 0) for image in images]
    batch = torch.stack(images)  # (B, H, W, 3)
    return batch.permute(0, 3, 1, 2), torch.stack(masks)  # int64 on the device: Place.put


def training_batches(
    dataset: SegmentationDataset,
    batch_size: int,
    first: int = 0,
    num_workers: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> Iterator:
    """Batches from position `first` on, without end; each of several processes takes its own."""
    starts = itertools.count(first + rank * batch_size, processes * batch_size)
    ahead = 4 if num_workers else None  # batches that each of the workers reads in advance
    loader = DataLoader(
        dataset,
        batch_sampler=(range(start, start + batch_size) for start in starts),
        num_workers=num_workers,
        collate_fn=stack,
        pin_memory=torch.cuda.is_initialized(),
        prefetch_factor=ahead,
        worker_init_fn=leave_signals_to_parent,
        generator=torch.Generator(),  # its own: it must not draw from the one that dropout uses
    )
    return iter(loader)


def ordered_batches(
    dataset: SegmentationDataset,
    batch_size: int,
    batches: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> Iterator:
    """A split as it is, in order; or, unless batches is 0, so many of them, of pairs taken evenly
    from all of it."""
    count = len(dataset)
    if batches:
        count = min(count, batches * batch_size)
    chosen = np.linspace(0, len(dataset) - 1, count).round().astype(int)
    loader = DataLoader(
        dataset,
        batch_size,
        sampler=chosen[rank::processes].tolist(),
        collate_fn=stack,
        generator=torch.Generator(),
    )
    return iter(loader)


def main(constants: dict) -> None:
    check(constants)
    data = prepare(*pick(constants, "dataset data_dir image_size cache seed"))
    print(overview(data))
    augment = make_augment(*augmentations_of(constants)[-1])
    stream = SegmentationDataset(data, "train", augment, *pick(constants, "seed mix"))
    path = save_samples(stream, data)
    print(f"no problems found; augmented samples are in {path}")


if __name__ == "__main__":
    run_with_constants(main)
