"""Colour pictures: drop them into InferenceOutput/TestImages, then `python inference.py`.

For each NAME.EXT there, InferenceOutput/TestPredictions gets NAME.png, a palette PNG of the picture's own size whose pixels are
class ids and which shows the classes' colours; NAME_overlay.png, the picture under those colours with a legend; and a line in
predictions.csv. The checkpoint says what net it is, its classes and its size: nothing is told twice.

With uncertainty_passes=N the net predicts N times with dropout alive (Gal and Ghahramani, 2016), and the mean counts. NAME_uncertainty.png
shows, left, the total uncertainty, the entropy of the mean; and right the part of it that the passes disagree about (epistemic: the net
has not learnt it, more pictures would help), the total less the mean of their entropies. uncertainty.csv has both for each class.

    python inference.py [name=value …]
"""
import math
import sys
from collections.abc import Iterator
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
tile = False  # True: pictures larger than those trained on are not shrunk to their size but cut into tiles, at the scale that was trained
uncertainty_passes = 0  # predictions with dropout alive, 20 for instance; 0 = one without. For nets trained with dropout
device = "auto"  # auto, cpu, cuda, cuda:1, mps
precision = "auto"  # auto, fp32, bf16, fp16

TILE = 512  # side of a tile's core, in the net's pixels


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


def logit_strips(model: torch.nn.Module, small: np.ndarray, place: utils.Place) -> Iterator[tuple[int, list[torch.Tensor]]]:
    """The net's logits of a picture (h, w, 3), strip by strip: the first row, and the strip (1, K, rows, w) once for each pass.

    Tiles start at multiples of what the net divides by, and reach over their cores by more than a pixel of the logits sees, so that the cores
    are what the whole picture would give. A strip's last row is the next one's first.
    """
    height, width = small.shape[:2]
    multiple = 2 ** len(model.downs)
    core, context = (TILE // multiple * multiple or multiple, 8 * multiple) if tile else (max(height, width), 0)
    for top in range(0, max(1, height - 1), core):
        bottom, y = min(height, top + core + 1), max(0, top - context)
        passes: list[list[torch.Tensor]] = [[] for _ in range(max(1, uncertainty_passes))]
        for left in range(0, width, core):
            right, x = min(width, left + core), max(0, left - context)
            piece = torch.from_numpy(small[y:top + core + context, x:left + core + context]).permute(2, 0, 1)[None]
            piece = piece.to(place.device).contiguous(memory_format=torch.channels_last)
            with place.autocast():
                for columns in passes:
                    columns.append(model(piece)[..., top - y:bottom - y, left - x:right - x])
        yield top, [torch.cat(columns, dim=3) for columns in passes]


@torch.no_grad()
def predict(model: torch.nn.Module, image: np.ndarray, saved: dict, place: utils.Place) -> tuple[np.ndarray, float, np.ndarray | None]:
    """Class ids uint8 (H, W) of a picture uint8 (H, W, 3), their mean probability, and total and epistemic uncertainty (2, H, W) or None."""
    height, width = image.shape[:2]
    size = [max(1, round(side * saved["scale"])) for side in (height, width)] if tile else saved["image_size"]
    small = resize_image(image, size)
    torch.manual_seed(0)  # the same picture gives the same uncertainty every time
    ids, confidence, uncertainty = [], 0.0, []
    for top, passes in logit_strips(model, small, place):
        for strips in zip(*(utils.upsampled(logits, height, width, top, len(small)) for logits in passes)):
            probs = [strip.softmax(1) for strip in strips]  # each (1, K, rows, W)
            mean = sum(probs) / len(probs)
            best, chosen = mean.max(1)
            ids.append(chosen[0].byte().cpu())
            confidence += best.sum().item()
            if uncertainty_passes:
                total = torch.special.entr(mean).sum(1)  # in nats
                aleatoric = sum(torch.special.entr(one).sum(1) for one in probs) / len(probs)
                uncertainty.append(torch.cat([total, (total - aleatoric).clamp(min=0)]).cpu())
    return torch.cat(ids).numpy(), confidence / (height * width), torch.cat(uncertainty, dim=1).numpy() if uncertainty else None


def draw_uncertainty(uncertainty: np.ndarray, num_classes: int) -> np.ndarray:
    """Total and epistemic uncertainty (2, H, W) side by side, on scales that are the same for all pictures."""
    tops = (math.log(num_classes), math.log(num_classes) / 4)  # nats: all classes alike; the passes seldom disagree by more than a quarter of it
    panels = [utils.heat(values / top) for values, top in zip(uncertainty, tops)]
    captions = [f"{side}: {kind}, white = {top:.2f} nats" for side, kind, top in zip(("left", "right"), ("total", "epistemic"), tops)]
    return utils.with_legend(np.concatenate(panels, axis=1), captions, [(255, 255, 255)] * 2)


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
            ids, confidence, uncertainty = predict(model, image, saved, place)
        except (InputError, RuntimeError, MemoryError) as problem:
            if not isinstance(problem, InputError):
                if not utils.is_out_of_memory(problem):
                    raise
                problem = f"{path} is too big for the memory of {place}; cut it, or try tile=true or device=cpu"
            tqdm.write(str(problem), file=sys.stderr)
            failed += 1
            continue
        utils.save_mask(folder / f"{name}.png", ids, colors)
        if overlay:
            utils.save_picture(folder / f"{name}_overlay.png", utils.overlay(image, ids, names, colors))
        if uncertainty is not None:
            utils.save_picture(folder / f"{name}_uncertainty.png", draw_uncertainty(uncertainty, len(names)))
            sums += [np.bincount(ids.ravel(), values.ravel(), len(names)) for values in (np.ones(ids.shape), *uncertainty)]
        shares = [np.count_nonzero(ids == i) / ids.size for i in range(len(names))]
        rows.append([path.name, *(f"{share:.4f}" for share in shares), f"{confidence:.4f}"])
    utils.write_table(folder / "predictions.csv", rows)
    if uncertainty_passes:
        means = [[name, f"{pixels / sums[0].sum():.4f}", *(f"{value / pixels:.4f}" for value in values)]
                 for name, (pixels, *values) in zip(names, sums.T) if pixels]
        utils.write_table(folder / "uncertainty.csv", [["class", "share", "total", "epistemic"], *means])
    print(f"{len(rows) - 1} of {len(files)} pictures coloured{f', {failed} could not be' * bool(failed)}; see {folder}")
    return 1 if failed else 0


if __name__ == "__main__":
    utils.run_script(globals(), main)
