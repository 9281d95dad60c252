"""Colour pictures: drop them into InferenceOutput/TestImages, then `python inference.py`.

For each NAME.EXT there, InferenceOutput/TestPredictions gets NAME.png, a palette PNG of the picture's own size whose pixels are
class ids and which shows the classes' colours; NAME_overlay.png, the picture under those colours with a legend; and a line in
predictions.csv. The checkpoint says what net it is, its classes and its size: nothing is told twice.

    python inference.py [name=value …]
"""
import csv
import io
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm

import utils
from dataset import InputError, list_files, read_image, resize_image
from model import build_model

checkpoint = "unet_model.pth"  # what train.py wrote; an earlier run's is TrainingOutput/<run>/best.pth
input_dir = "InferenceOutput/TestImages"
output_dir = "InferenceOutput/TestPredictions"
overlay = True  # also the picture under its classes' colours
device = "auto"  # auto, cpu, cuda, cuda:1, mps
precision = "auto"  # auto, fp32, bf16, fp16


def load_model(saved: dict, place: utils.Place) -> torch.nn.Module:
    """The net that a checkpoint describes, ready to predict."""
    model = build_model(**saved["model"])
    model.load_state_dict(saved["weights"])
    return model.eval().to(place.device, memory_format=torch.channels_last)


def name_outputs(files: list[Path]) -> dict[Path, str]:
    """A name for each picture's files, its stem where that is free: cat.jpg and cat.png never share one."""
    stems = [path.stem.lower() for path in files]
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in files:
        name = path.stem if stems.count(path.stem.lower()) == 1 else path.name
        while taken & {name.lower(), f"{name}_overlay".lower()}:
            name += "_"
        taken |= {name.lower(), f"{name}_overlay".lower()}
        names[path] = name
    return names


@torch.no_grad()
def predict(model: torch.nn.Module, image: np.ndarray, size: tuple[int, int], place: utils.Place) -> tuple[np.ndarray, float]:
    """Class ids uint8 (H, W) of a picture uint8 (H, W, 3), and the mean probability of the classes chosen."""
    small = torch.from_numpy(resize_image(image, size)).permute(2, 0, 1)[None]  # (1, 3, h, w)
    with place.autocast():
        logits = model(small.to(place.device).contiguous(memory_format=torch.channels_last))
    probs = F.interpolate(logits, size=image.shape[:2], mode="bilinear").softmax(1)  # (1, K, H, W)
    confidence, ids = probs.max(1)
    return ids[0].byte().cpu().numpy(), confidence.mean().item()


def write_table(path: Path, names: list[str], rows: list[list]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([["file", *names, "mean_confidence"], *rows])
    utils.write_atomic(path, lambda file: file.write(text.getvalue().encode()))


def main() -> int:
    saved = utils.load_checkpoint(Path(checkpoint))
    place = utils.Place(device, precision)
    model = load_model(saved, place)
    names, colors = [entry["name"] for entry in saved["classes"]], [entry["color"] for entry in saved["classes"]]
    if not Path(input_dir).is_dir():
        raise InputError(f"input_dir {input_dir} is not there; make it and put pictures into it")
    files, folder = list_files(Path(input_dir)), Path(output_dir)
    if not files:
        raise InputError(f"no pictures in {input_dir}; put some there")
    if folder.resolve() == Path(input_dir).resolve():
        raise InputError(f"output_dir is {output_dir}, as input_dir is; name another, so that no picture is written over")

    rows, failed = [], 0
    for path, name in tqdm(name_outputs(files).items(), "colouring", unit="picture"):
        try:
            image = read_image(path)
        except InputError as problem:
            tqdm.write(str(problem), file=sys.stderr)
            failed += 1
            continue
        ids, confidence = predict(model, image, tuple(saved["image_size"]), place)
        utils.save_mask(folder / f"{name}.png", ids, colors)
        if overlay:
            utils.save_picture(folder / f"{name}_overlay.png", utils.overlay(image, ids, names, colors))
        shares = np.bincount(ids.ravel(), minlength=len(names)) / ids.size
        rows.append([path.name, *(f"{share:.4f}" for share in shares), f"{confidence:.4f}"])
    write_table(folder / "predictions.csv", names, rows)
    print(f"{len(rows)} of {len(files)} pictures coloured; see {folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    utils.run_script(globals(), main)
