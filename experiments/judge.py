"""What a checkpoint scores on the last split of its own data set, predicted as inference.py does:
with tta, with tiles.

    python experiments/judge.py [checkpoint=TrainingOutput/RUN] [tta=true] [tile=true]
"""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from toolbox.bars import Counting
from toolbox.descriptions import check_constants
from toolbox.errors import InputError
from toolbox.machine import Place
from toolbox.masks import read_image, resize_image
from toolbox.nets import files_of, read_all, together
from toolbox.prepared import Data
from toolbox.reports import closing_table, report_of
from toolbox.resuming import look_at_run
from toolbox.settings import pick, run_script
from toolbox.splits import split_pairs

import inference
from dataset import SegmentationDataset, prepare
from utils import ConfusionMatrix, load_checkpoint

checkpoint = "unet_model.pth"
tta = False
tile = False


def data_of(every: Sequence[dict]) -> Data:
    """The data set that checkpoints were trained on; its last split, which is judged, is one that
    none of them has seen."""
    path, saved = Path(inference.checkpoint), every[0]
    for one in every:
        check_constants(path, one, ("dataset", "data_dir", "seed"))
    names = sorted({one["constants"]["dataset"] for one in every})
    if len(names) > 1:
        raise InputError(
            f"the nets in {path} were trained on the datasets {' and '.join(names)}; name one of "
            "them, or those that were trained on one data set"
        )
    name, data_dir, seed = pick(saved["constants"], "dataset data_dir seed")
    try:
        data = prepare(name, data_dir, tuple(saved["image_size"]), seed=seed)
    except InputError as error:
        raise InputError(
            f"{path} was trained on dataset {name}, to be judged by: {error}"
        ) from error
    check_unseen(path, every, data)
    check_unchanged(path, saved, data)
    return data


def check_unseen(path: Path, every: Sequence[dict], data: Data) -> None:
    """What is judged must have been left out by each net's training."""
    folds = any(saved["constants"].get("folds") for saved in every)
    if folds and not any(pair.split == "test" for pair in data.pairs):
        raise InputError(
            f"{path} is of a run with folds, whose nets have seen all pictures but their own; its "
            "report.json has the score, and more can be judged on a test split only"
        )
    judged = list(data.splits)[-1]
    for saved in every:
        seed = saved["constants"]["seed"]
        if split_pairs(data.pairs, seed)[judged] != data.splits[judged]:
            raise InputError(
                f"the nets in {path} have several seeds, and each seed splits {data.name} anew: "
                f"what is {judged} for one was trained on by others; name one of the nets, or put "
                "the pictures to judge by into test/ before training"
            )


def check_unchanged(path: Path, saved: dict, data: Data) -> None:
    """Classes must be those of the training; other pictures are told, where the run is known."""
    then, now = [one["name"] for one in saved["classes"]], data.table.names
    if then != now:
        raise InputError(
            f"{data.name} has the classes {', '.join(now)}, and {path} was trained on "
            f"{', '.join(then)}; put its classes back, or train anew"
        )
    last = files_of(path)[0].with_name("last.pth")
    if saved["constants"].get("folds") or not last.exists():
        return
    with suppress(InputError):  # a damaged one says nothing of the best weights
        if look_at_run(last)["resume"]["data"] != data.fingerprint():
            print(
                f"pictures, masks or splits of {data.name} have changed since {path} was trained: "
                "it may have been trained on some that judge it here"
            )


def main() -> None:
    inference.checkpoint, inference.tta, inference.tile = checkpoint, tta, tile
    place = Place(inference.device, inference.precision)
    every = read_all(checkpoint, load_checkpoint, tile)
    saved = every[0]
    model = together([inference.load_model(one, place) for one in every])
    data = data_of(every)
    name = list(data.splits)[-1]
    split = SegmentationDataset(data, name)
    matrix = ConfusionMatrix(len(data.table.names))
    for i, row in enumerate(Counting(split.rows, f"judging {name}", leave=False)):
        mask, image = split.full_mask(i), read_image(data.pairs[row].image)
        small = resize_image(image, inference.net_size(image.shape, saved))
        (found,) = inference.predict(model, [tuple(mask.shape)], small[None], place)
        matrix.update(torch.from_numpy(found.ids), mask)
    print(closing_table({name: report_of(matrix.scores(), data.table.names)}))


if __name__ == "__main__":
    run_script(globals(), main)
