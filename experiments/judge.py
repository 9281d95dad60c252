"""What a checkpoint scores on the last split of its own data set, predicted as inference.py does:
with tta, with tiles.

    python experiments/judge.py [checkpoint=TrainingOutput/RUN] [tta=true] [tile=true]
"""

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from toolbox.bars import Counting
from toolbox.descriptions import check_constants
from toolbox.errors import InputError
from toolbox.machine import Place
from toolbox.masks import read_image, resize_image
from toolbox.nets import read_all, together
from toolbox.prepared import Data
from toolbox.reports import closing_table, report_of
from toolbox.settings import pick, run_script

import inference
from dataset import SegmentationDataset, prepare
from utils import ConfusionMatrix, load_checkpoint

checkpoint = "unet_model.pth"
tta = False
tile = False


def data_of(saved: dict) -> Data:
    """The data set that a checkpoint was trained on."""
    check_constants(Path(inference.checkpoint), saved, ("dataset", "data_dir", "seed"))
    name, data_dir, seed = pick(saved["constants"], "dataset data_dir seed")
    data = prepare(name, data_dir, tuple(saved["image_size"]), seed=seed)
    if saved["constants"].get("folds") and not any(pair.split == "test" for pair in data.pairs):
        raise InputError(
            f"{inference.checkpoint} is of a run with folds, whose nets have seen all pictures but "
            "their own; its report.json has the score, and more can be judged on a test split only"
        )
    return data


def main() -> None:
    inference.checkpoint, inference.tta, inference.tile = checkpoint, tta, tile
    place = Place(inference.device, inference.precision)
    every = read_all(checkpoint, load_checkpoint, tile)
    saved = every[0]
    model = together([inference.load_model(one, place) for one in every])
    data = data_of(saved)
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
