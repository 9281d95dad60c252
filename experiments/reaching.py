"""Seconds of training until a score is reached: ours, ours with AdamW, and the textbook's way.

    python experiments/benchmark.py parts=score [score_on=camvid data_dir=PATH]

All train on one split and are judged on another at the masks' own size. They take their steps in
turn, some at a time; judging is not counted. Ours has a learning rate that falls, so how long a run
is to be has to be known: the lengths below were found by trying. The textbook's rate stays as it is
(plain Adam, 1e-3, fp32, cross entropy, mirrored pictures, files read each time): it learns as long
as it takes.
"""

import itertools
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from toolbox import settings
from toolbox.errors import InputError
from toolbox.machine import Place
from toolbox.prepared import Data
from toolbox.tiles import classes_at

import textbook
import torch
from measuring import spread

import train
from dataset import prepare, read_ids, training_batches
from utils import ConfusionMatrix

ROOT = Path(__file__).resolve().parent.parent

TURN = 25  # steps between judgings
# A goal's data set and split, ours in train.py's arguments, and the textbook's size (width, height)
# and features. "lengths" are the steps of ours with Muon and with AdamW.
GOALS = {
    "streets": {
        "score": 0.80,
        "split": "test",
        "arguments": [],
        "lengths": {"muon": 600, "adamw": 1800},
        "size": (128, 80),
        "features": (16, 32, 64),
    },
    "camvid": {
        "score": 0.60,
        "split": "val",
        "arguments": [str(ROOT / "recipes" / "camvid_small.py")],
        "lengths": {"muon": 1000, "adamw": 3000},
        "size": (240, 176),
        "features": (16, 32, 64, 128),
    },
}


class Ours:
    """train.py's own steps, with constants that are put in place for each turn."""

    def __init__(self, constants: dict, data: Data, split: str, place: Place):
        self.constants = constants
        self.place = place
        vars(train).update(constants)
        self.training = train.Training(data, place)
        self.split = self.training.splits[split]
        self.batches = training_batches(self.training.stream, constants["batch_size"])

    def is_over(self) -> bool:
        return self.training.step >= self.constants["training_iterations"]

    def steps(self, count: int) -> None:
        vars(train).update(self.constants)
        for _ in range(count):
            self.training.take_step(self.batches)

    def score(self) -> float:
        vars(train).update(self.constants)
        matrix = ConfusionMatrix(self.training.kept.num_classes, self.place.device)
        indices = itertools.count()
        for logits, _ in train.predictions(self.training.kept, self.split, self.place):
            for one, i in zip(logits, indices):
                mask = self.split.full_mask(i).to(self.place.device)
                matrix.update(classes_at(one[None], *mask.shape), mask)
        return matrix.scores()["mean_iou"]


class TextbookPairs(torch.utils.data.Dataset):
    """textbook.py's reading, for any data set: each file is decoded and shrunk whenever it is asked
    for, and mirrored half of the time."""

    def __init__(self, data: Data, split: str, size: tuple[int, int], flip: bool):
        self.rows = [data.pairs[row] for row in data.splits[split]]
        self.data, self.size, self.flip = data, size, flip

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor]:
        pair = self.rows[i]
        with Image.open(pair.image) as file:
            image = textbook.to_tensor(file.convert("RGB").resize(self.size, Image.BILINEAR))
        ids = read_ids(pair.mask, self.data.table.meaning, self.data.source.read_values)
        mask = torch.from_numpy(ids)
        if self.flip:  # trained on
            shrunk = Image.fromarray(ids).resize(self.size, Image.NEAREST)
            mask = textbook.pil_to_tensor(shrunk)[0]
            if torch.rand(()) < 0.5:
                image, mask = image.flip(-1), mask.flip(-1)
        return image, mask.long()


class Textbook:
    """textbook.py's net, step and optimizer."""

    def __init__(self, goal: dict, data: Data, seed: int):
        torch.manual_seed(seed)
        self.classes = len(data.table.names)
        self.split = TextbookPairs(data, goal["split"], goal["size"], flip=False)
        pairs = TextbookPairs(data, "train", goal["size"], flip=True)
        size = textbook.BATCH_SIZE
        loader = torch.utils.data.DataLoader(pairs, size, shuffle=True, drop_last=True)
        self.batches: Iterator = itertools.chain.from_iterable(itertools.repeat(loader))
        self.model = textbook.UNet(self.classes, goal["features"])
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-3)
        self.random = torch.get_rng_state()  # its own: ours sets the common one at each step

    def is_over(self) -> bool:
        return False

    def steps(self, count: int) -> None:
        torch.set_rng_state(self.random)
        for images, masks in itertools.islice(self.batches, count):
            textbook.train_step(self.model, self.optimizer, images, masks)
        self.random = torch.get_rng_state()

    @torch.no_grad()
    def score(self) -> float:
        self.model.eval()
        matrix = ConfusionMatrix(self.classes, torch.device("cpu"))
        for image, mask in self.split:
            logits = self.model(image[None])
            matrix.update(classes_at(logits, *mask.shape), mask)
        return matrix.scores()["mean_iou"]


def seconds_to(ways: dict, wanted: float, limit: float) -> dict:
    """Seconds of training and steps of each way to the wanted score; None where a run was over
    before, or took longer than the limit."""
    found = dict.fromkeys(ways)
    taken = dict.fromkeys(ways, 0.0)
    going = dict(ways)
    for turn in itertools.count(1):
        for name, way in list(going.items()):
            began = time.perf_counter()
            way.steps(TURN)
            taken[name] += time.perf_counter() - began
            score = way.score()
            if score >= wanted:
                found[name] = {"seconds": taken[name], "steps": turn * TURN, "score": score}
            if score >= wanted or way.is_over() or taken[name] > limit:
                del going[name]
                words = "reached" if found[name] else f"ended at {score:.3f}"
                print(f"    {name:<12} {taken[name]:7.1f} s, {turn * TURN} steps: {words}")
        if not going:
            return found


def measure_reaching(
    place: Place, goal_name: str, data_dir: str, seeds: int, limit: float = 3600
) -> dict:
    """The seconds of each way for each seed, and how many times as fast ours is."""
    if goal_name not in GOALS:
        raise InputError(f"score_on is {goal_name!r}; expected one of {', '.join(GOALS)}")
    goal = GOALS[goal_name]
    before = train.constants()
    rows = []
    for seed in range(seeds):
        print(f"{goal_name} {goal['split']} at {goal['score']}, seed {seed}", flush=True)
        ways = {}
        for name, steps in goal["lengths"].items():
            own = [f"optimizer={name}", f"training_iterations={steps}", f"seed={seed}"]
            constants = dict(before)
            settings.override(constants, [*goal["arguments"], *own])
            constants["dataset"], constants["data_dir"] = goal_name, data_dir
            wanted = [constants[key] for key in ("dataset", "data_dir", "image_size", "cache")]
            data = prepare(*wanted, seed)
            ways[f"ours, {name}"] = Ours(constants, data, goal["split"], place)
        ways["textbook"] = Textbook(goal, data, seed)
        rows.append(seconds_to(ways, goal["score"], limit))
        vars(train).update(before)
    found = {"seeds": rows, "times as fast as": {}}
    for name in rows[0]:
        pairs = [(row[name], row["ours, muon"]) for row in rows]
        ratios = [other["seconds"] / own["seconds"] for other, own in pairs if other and own]
        if name != "ours, muon" and ratios:
            found["times as fast as"][name] = spread(ratios)
            middle = statistics.median(ratios)
            least, most = min(ratios), max(ratios)
            print(f"    ours against {name:<12} {middle:6.2f} times  ({least:.2f} to {most:.2f})")
    return found
