"""What a checkpoint scores on the last split of its own data set, predicted as inference.py does it: with tta, with tiles.

python tests/judge.py [checkpoint=TrainingOutput/RUN/best.pth] [tta=true] [tile=true]
"""

import sys
from pathlib import Path

import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
import inference
import utils
from dataset import prepare, read_image, resize_image

checkpoint = "unet_model.pth"
tta = False
tile = False


def main() -> None:
    inference.checkpoint, inference.tta, inference.tile = checkpoint, tta, tile
    saved, place = utils.load_checkpoint(Path(checkpoint)), utils.Place("auto", "auto")
    model, constants = inference.load_model(saved, place), saved["constants"]
    data = prepare(
        constants["dataset"],
        constants["data_dir"],
        tuple(saved["image_size"]),
        seed=constants["seed"],
    )
    split = list(data.splits)[-1]
    matrix = utils.ConfusionMatrix(len(data.table.names))
    for row in tqdm(data.splits[split], f"judging {split}", leave=False):
        mask, image = data.read_full_mask(row), read_image(data.pairs[row].image)
        (found,) = inference.predict(
            model,
            [mask.shape],
            resize_image(image, inference.net_size(image.shape, saved))[None],
            place,
        )
        matrix.update(torch.from_numpy(found.ids), torch.from_numpy(mask))
    print(utils.format_report({split: matrix.report(data.table.names)}))


if __name__ == "__main__":
    utils.run_script(globals(), main)
