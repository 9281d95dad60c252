"""Colour pictures: drop them into InferenceOutput/TestImages, then `python inference.py`.

For each NAME.EXT there, InferenceOutput/TestPredictions gets NAME.png, a palette PNG of the picture's own size whose pixels are
class ids and which shows the classes' colours; NAME_overlay.png, the picture under those colours with a legend; and a line in
predictions.csv. The checkpoint says what net it is, its classes and its size: nothing is told twice.

With uncertainty_passes=N the net predicts N times with dropout alive (Gal and Ghahramani, 2016), and the mean counts. NAME_uncertainty.png
shows, left, the total uncertainty, the entropy of the mean; and right the part of it that the passes disagree about (epistemic: the net
has not learnt it, more pictures would help), the total less the mean of their entropies. uncertainty.csv has both for each class.

    python inference.py [name=value …]
"""
import csv
import io
import math
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import utils
from dataset import InputError, list_files, read_image, resize_image
from model import build_model

checkpoint = "unet_model.pth"  # what train.py wrote; an earlier run's is TrainingOutput/<run>/best.pth
input_dir = "InferenceOutput/TestImages"
output_dir = "InferenceOutput/TestPredictions"
overlay = True  # also the picture under its classes' colours
uncertainty_passes = 0  # predictions with dropout alive, 20 for instance; 0 = one without. For nets trained with dropout
device = "auto"  # auto, cpu, cuda, cuda:1, mps
precision = "auto"  # auto, fp32, bf16, fp16


def load_model(saved: dict, place: utils.Place) -> torch.nn.Module:
    """The net that a checkpoint describes, ready to predict; with uncertainty_passes, dropout stays alive."""
    try:
        model = build_model(**saved["model"])
        model.load_state_dict(saved["weights"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{checkpoint} does not fit the net that it describes ({str(error).splitlines()[0]}); expected one that train.py wrote") from error
    model.eval()
    dropouts = [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    if uncertainty_passes and not dropouts:
        raise InputError(f"uncertainty_passes is {uncertainty_passes}, but {checkpoint} was trained without dropout, so that all passes agree; "
                         "train with dropout=0.1, or set uncertainty_passes=0")
    for dropout in dropouts:
        dropout.train(uncertainty_passes > 0)
    return model.to(place.device, memory_format=torch.channels_last)


def name_outputs(files: list[Path]) -> dict[Path, str]:
    """A name for each picture's files, its stem where that is free: cat.jpg and cat.png never share one."""
    stems = [path.stem.lower() for path in files]
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in files:
        name = path.stem if stems.count(path.stem.lower()) == 1 else path.name
        while taken & (own := {f"{name}{ending}".lower() for ending in ("", "_overlay", "_uncertainty")}):
            name += "_"
        taken |= own
        names[path] = name
    return names


@torch.no_grad()
def predict(model: torch.nn.Module, image: np.ndarray, size: tuple[int, int], place: utils.Place) -> tuple[np.ndarray, float, np.ndarray | None]:
    """Class ids uint8 (H, W) of a picture uint8 (H, W, 3), their mean probability, and total and epistemic uncertainty (2, H, W) or None."""
    small = torch.from_numpy(resize_image(image, size)).permute(2, 0, 1)[None]  # (1, 3, h, w)
    small = small.to(place.device).contiguous(memory_format=torch.channels_last)
    torch.manual_seed(0)  # the same picture gives the same uncertainty every time
    with place.autocast():
        passes = [model(small) for _ in range(max(1, uncertainty_passes))]
    ids, confidence, uncertainty = [], 0.0, []
    for strips in zip(*(utils.upsampled(logits, *image.shape[:2]) for logits in passes)):
        probs = [strip.softmax(1) for strip in strips]  # each (1, K, rows, W)
        mean = sum(probs) / len(probs)
        best, chosen = mean.max(1)
        ids.append(chosen[0].byte().cpu())
        confidence += best.sum().item()
        if uncertainty_passes:
            total = torch.special.entr(mean).sum(1)  # in nats
            aleatoric = sum(torch.special.entr(one).sum(1) for one in probs) / len(probs)
            uncertainty.append(torch.cat([total, (total - aleatoric).clamp(min=0)]).cpu())
    height, width = image.shape[:2]
    return torch.cat(ids).numpy(), confidence / (height * width), torch.cat(uncertainty, dim=1).numpy() if uncertainty else None


def draw_uncertainty(uncertainty: np.ndarray, num_classes: int) -> np.ndarray:
    """Total and epistemic uncertainty (2, H, W) side by side, on scales that are the same for all pictures."""
    tops = (math.log(num_classes), math.log(num_classes) / 4)  # nats: all classes alike; the passes seldom disagree by more than a quarter of it
    panels = [utils.heat(values / top) for values, top in zip(uncertainty, tops)]
    captions = [f"{side}: {kind}, white = {top:.2f} nats" for side, kind, top in zip(("left", "right"), ("total", "epistemic"), tops)]
    return utils.with_legend(np.concatenate(panels, axis=1), captions, [(255, 255, 255)] * 2)


def write_table(path: Path, rows: list[list]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    utils.write_atomic(path, lambda file: file.write(text.getvalue().encode()))


def main() -> int:
    if uncertainty_passes < 0:
        raise InputError(f"uncertainty_passes is {uncertainty_passes}; expected 0 or more")
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

    rows, failed = [["file", *names, "mean_confidence"]], 0
    sums = np.zeros((3, len(names)))  # pixels, total and epistemic uncertainty of each class predicted
    for path, name in tqdm(name_outputs(files).items(), "colouring", unit="picture"):
        try:
            image = read_image(path)
        except InputError as problem:
            tqdm.write(str(problem), file=sys.stderr)
            failed += 1
            continue
        ids, confidence, uncertainty = predict(model, image, tuple(saved["image_size"]), place)
        utils.save_mask(folder / f"{name}.png", ids, colors)
        if overlay:
            utils.save_picture(folder / f"{name}_overlay.png", utils.overlay(image, ids, names, colors))
        if uncertainty is not None:
            utils.save_picture(folder / f"{name}_uncertainty.png", draw_uncertainty(uncertainty, len(names)))
            sums += [np.bincount(ids.ravel(), values.ravel(), len(names)) for values in (np.ones(ids.shape), *uncertainty)]
        shares = np.bincount(ids.ravel(), minlength=len(names)) / ids.size
        rows.append([path.name, *(f"{share:.4f}" for share in shares), f"{confidence:.4f}"])
    write_table(folder / "predictions.csv", rows)
    if uncertainty_passes:
        means = [[name, f"{pixels / sums[0].sum():.4f}", *(f"{value / pixels:.4f}" for value in values)]
                 for name, (pixels, *values) in zip(names, sums.T) if pixels]
        write_table(folder / "uncertainty.csv", [["class", "share", "total", "epistemic"], *means])
    print(f"{len(rows) - 1} of {len(files)} pictures coloured; see {folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    utils.run_script(globals(), main)
