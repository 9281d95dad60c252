"""Colour pictures: drop them into InferenceOutput/TestImages, then `python inference.py`.

For each NAME.EXT there, InferenceOutput/TestPredictions gets NAME.png, a palette PNG of the picture's own size whose pixels are
class ids and which shows the classes' colours; NAME_overlay.png, the picture under those colours with a legend; and a line in
predictions.csv. The checkpoint says what net it is, its classes and its size: nothing is told twice. A picture that was coloured before by
the same checkpoint with the same settings is left as it is, so that a run that was stopped does only what is missing. Files that this script has not made are never written over.

With uncertainty_passes=N the net predicts N times with dropout alive (Gal and Ghahramani, 2016), and the mean counts. NAME_uncertainty.png
shows, left, the total uncertainty, the entropy of the mean; and right the part of it that the passes disagree about (epistemic: the net
has not learnt it, more pictures would help), the total less the mean of their entropies. uncertainty.csv has both for each class.

    python inference.py [name=value …]
    torchrun --standalone --nproc_per_node=N inference.py …     N processes share the pictures out
"""

import errno
import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from tqdm import tqdm

import utils
from dataset import InputError, fingerprint, list_files, read_image, resize_image
from model import DoubleConv, build_model

checkpoint = (
    "unet_model.pth"  # what train.py wrote; an earlier run's is TrainingOutput/<run>/best.pth
)
input_dir = "InferenceOutput/TestImages"
output_dir = "InferenceOutput/TestPredictions"
batch_size = 8  # pictures that go through the net together, where they are of one size for it
tile = False  # True: pictures larger than those trained on are not shrunk to their size but cut into tiles, at the scale that was trained
tta = False  # True: the mean of six looks at each picture, as it is and mirrored, at three scales; six to seven times the work
uncertainty_passes = 0  # predictions with dropout alive, 20 for instance; 0 = one without. For nets trained with dropout
overlay = True  # also the picture under its classes' colours
overwrite = False  # True: also what this checkpoint has coloured before
device = "auto"  # auto, cpu, cuda, cuda:1, mps
precision = "auto"  # auto, fp32, bf16, fp16

TILE = 512  # side of a tile's core, in the net's pixels
AT_ONCE = 64_000_000  # pixels in memory as pictures that are read, coloured or written; a bigger picture is alone there


def load_model(saved: dict, place: utils.Place) -> nn.Module:
    """The net that a checkpoint describes, ready to predict; with uncertainty_passes, dropout stays alive."""
    try:
        model = build_model(**saved["model"])
        model.load_state_dict(saved["weights"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{checkpoint} does not fit the net that it describes ({str(error).splitlines()[0]}); expected one that train.py wrote"
        ) from error
    model.eval()
    for block in [module for module in model.modules() if isinstance(module, DoubleConv)]:
        for i in [
            i for i, layer in enumerate(block) if isinstance(layer, nn.BatchNorm2d)
        ]:  # its factor and shift become the convolution's
            block[i - 1], block[i] = fuse_conv_bn_eval(block[i - 1], block[i]), nn.Identity()
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    if uncertainty_passes and not dropouts:
        raise InputError(
            f"uncertainty_passes is {uncertainty_passes}, but {checkpoint} was trained without dropout, so that all passes agree; "
            "train with dropout=0.1, or set uncertainty_passes=0"
        )
    for dropout in dropouts:
        dropout.train(uncertainty_passes > 0)
    return model.to(place.device, memory_format=torch.channels_last)


def name_outputs(files: list[Path]) -> dict[Path, str]:
    """A name for each picture's files, its stem where that is free: cat.jpg and cat.png never share one."""
    stems = Counter(path.stem.lower() for path in files)
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in files:
        name = path.stem if stems[path.stem.lower()] == 1 else path.name
        while taken & (
            own := {f"{name}{ending}".lower() for ending in ("", "_overlay", "_uncertainty")}
        ):
            name += "_"
        taken |= own
        names[path] = name
    return names


# ---- from a picture to class ids ----


class Prediction:
    """What is known of a picture, filled from the top down."""

    def __init__(self, shape: tuple[int, int], num_classes: int):
        self.ids = np.empty(shape, np.uint8)  # (H, W)
        self.uncertainty = (
            np.empty((2, *shape), np.float32) if uncertainty_passes else None
        )  # total and epistemic
        self.sums = np.zeros(
            (3, num_classes)
        )  # of each class predicted: pixels, total and epistemic uncertainty
        self.confidence, self.rows = 0.0, 0

    def add(self, strips: tuple[torch.Tensor, ...]) -> None:
        """The next rows, from their logits (1, K, rows, W), one tensor for each pass."""
        probs = [strip.softmax(1) for strip in strips]
        mean = sum(probs) / len(probs)
        best, chosen = mean.max(1)  # (1, rows, W)
        part = slice(self.rows, self.rows + chosen.shape[1])
        self.rows = part.stop
        self.ids[part] = chosen[0].byte().cpu().numpy()
        self.confidence += best.sum().item() / self.ids.size
        values = [None]  # of a pixel, to be summed up by class; None counts them
        if self.uncertainty is not None:
            total = torch.special.entr(mean).sum(1)  # in nats
            aleatoric = sum(torch.special.entr(one).sum(1) for one in probs) / len(probs)
            self.uncertainty[:, part] = (
                torch.cat([total, (total - aleatoric).clamp(min=0)]).cpu().numpy()
            )
            values += [self.uncertainty[i, part].ravel() for i in range(2)]
        for i, value in enumerate(values):
            self.sums[i] += np.bincount(self.ids[part].ravel(), value, self.sums.shape[1])


def net_size(shape: tuple[int, ...], saved: dict) -> list[int]:
    """The size (h, w) at which a picture of this shape goes into the net."""
    return (
        [max(1, round(side * saved["scale"])) for side in shape[:2]]
        if tile
        else list(saved["image_size"])
    )


def looks(model: nn.Module, pieces: torch.Tensor) -> Iterator[torch.Tensor]:
    """Logits (B, K, h, w) of pictures uint8 (B, 3, h, w), once for each pass with dropout, or for each way of looking."""
    if not tta:
        for _ in range(max(1, uncertainty_passes)):
            yield model(pieces)
        return
    size = pieces.shape[2:]
    for scale in (1, 0.75, 1.25):
        scaled = (
            pieces
            if scale == 1
            else F.interpolate(
                pieces.float(),
                size=[max(1, round(side * scale)) for side in size],
                mode="bilinear",
                antialias=True,
            )
        )
        for turn in (lambda x: x, lambda x: x.flip(3)):  # flipping is its own inverse
            yield F.interpolate(
                turn(model(turn(scaled).contiguous(memory_format=torch.channels_last))),
                size=size,
                mode="bilinear",
            )


def logit_strips(
    model: nn.Module, small: np.ndarray, place: utils.Place
) -> Iterator[tuple[int, list[torch.Tensor]]]:
    """The net's logits of pictures (B, h, w, 3), strip by strip: the first row, and the strip (B, K, rows, w) once for each look.

    Tiles start at multiples of what the net divides by, and reach over their cores by more than a pixel of the logits sees, so that the cores
    are what the whole picture would give. A strip's last row is the next one's first.
    """
    height, width = small.shape[1:3]
    multiple = model.multiple()
    core, context = (
        (TILE // multiple * multiple or multiple, 8 * multiple) if tile else (max(height, width), 0)
    )
    for top in range(0, max(1, height - 1), core):
        bottom, y = min(height, top + core + 1), max(0, top - context)
        columns: list[list[torch.Tensor]] = []  # of each tile, the logits of its core by each look
        for left in range(0, width, core):
            right, x = min(width, left + core), max(0, left - context)
            piece = (
                torch.from_numpy(small[:, y : top + core + context, x : left + core + context])
                .to(place.device)
                .permute(0, 3, 1, 2)
            )
            core_part = (..., slice(top - y, bottom - y), slice(left - x, right - x))
            with place.autocast():
                columns.append(
                    [
                        logits[core_part]
                        for logits in looks(
                            model, piece.contiguous(memory_format=torch.channels_last)
                        )
                    ]
                )
        yield top, [torch.cat(parts, dim=3) for parts in zip(*columns)]


@torch.no_grad()
def predict(
    model: nn.Module, shapes: list[tuple[int, int]], small: np.ndarray, place: utils.Place
) -> list[Prediction]:
    """Predictions for pictures (B, h, w, 3) that are of the net's size and had these heights and widths before."""
    torch.manual_seed(0)  # the same picture gives the same uncertainty every time
    results = [Prediction(shape, model.num_classes) for shape in shapes]
    for top, passes in logit_strips(model, small, place):
        for i, result in enumerate(results):
            strips = (
                utils.upsampled(logits[i : i + 1], *result.ids.shape, top, small.shape[1])
                for logits in passes
            )
            for parts in zip(*strips):
                result.add(parts)
    return results


def draw_uncertainty(uncertainty: np.ndarray, num_classes: int) -> np.ndarray:
    """Total and epistemic uncertainty (2, H, W) side by side, on scales that are the same for all pictures."""
    tops = (
        math.log(num_classes),
        math.log(num_classes) / 4,
    )  # nats: all classes alike; the passes seldom disagree by more than a quarter of it
    panels = [utils.heat(values / top) for values, top in zip(uncertainty, tops)]
    captions = [
        f"{side}: {kind}, white = {top:.2f} nats"
        for side, kind, top in zip(("left", "right"), ("total", "epistemic"), tops)
    ]
    return utils.with_legend(np.concatenate(panels, axis=1), captions, [(255, 255, 255)] * 2)


# ---- from files to files: threads read what comes next and write what is done while the net works ----

Note = tuple[
    float, np.ndarray
]  # what predictions.csv needs, and stands in NAME.png: the confidence and Prediction.sums


class Job(NamedTuple):
    """A picture to colour."""

    path: Path
    name: str  # of its files in output_dir
    key: str  # names the picture, the checkpoint and the settings, and stands in all its files
    pixels: int
    size: tuple[int, ...]  # in the net


def describe_job(path: Path, name: str, saved: dict, origin: str) -> Job:
    key, pixels, size = "", 0, ()
    with (
        suppress(Exception),
        Image.open(path) as picture,
    ):  # why one can't be opened is said when it is read
        facts = path.stat()
        key, pixels = (
            fingerprint(origin, path.name, facts.st_size, facts.st_mtime_ns),
            picture.width * picture.height,
        )
        size = tuple(net_size((picture.height, picture.width), saved))
    return Job(path, name, key, pixels, size)


def group_jobs(jobs: list[Job]) -> list[list[Job]]:
    """Batches in order: pictures of one size for the net, no more of them than batch_size and memory allow."""
    groups: list[list[Job]] = []
    most = (
        1 if uncertainty_passes else batch_size
    )  # in a batch the dropout of one picture would depend on its neighbours
    for job in jobs:
        last = groups[-1] if groups else []
        if (
            last
            and len(last) < most
            and job.size == last[0].size
            and sum(one.pixels for one in [*last, job]) <= AT_ONCE
        ):
            last.append(job)
        else:
            groups.append([job])
    return groups


def complain(job: Job, problem: Exception, place: utils.Place) -> None:
    """Name a picture that can't be coloured; the others go on."""
    if utils.is_out_of_memory(problem):
        problem = InputError(
            f"{job.path} is too big for the memory of {place}; cut it, or try tile=true or device=cpu"
        )
    if not isinstance(problem, InputError):
        raise problem
    tqdm.write(str(problem), file=sys.stderr)


def read(job: Job, saved: dict, place: utils.Place) -> tuple[Job, np.ndarray, np.ndarray] | None:
    """The picture as it is, and as the net takes it."""
    try:
        image = read_image(job.path)
        return job, image, resize_image(image, net_size(image.shape, saved))
    except (InputError, MemoryError, cv2.error) as problem:
        complain(job, problem, place)
    return None


def color(
    model: nn.Module, pictures: list[tuple[Job, np.ndarray, np.ndarray]], place: utils.Place
) -> list[tuple[Job, np.ndarray, Prediction]]:
    """Predictions for a batch; where memory is too short for all of it at once, one by one."""
    jobs, images, smalls = zip(*pictures)
    try:
        if len({small.shape for small in smalls}) == 1:  # a picture may be turned by its EXIF
            batch = np.stack(smalls) if len(smalls) > 1 else smalls[0][None]
            return list(
                zip(
                    jobs,
                    images,
                    predict(model, [image.shape[:2] for image in images], batch, place),
                )
            )
    except (RuntimeError, MemoryError) as problem:
        if len(pictures) == 1 or not utils.is_out_of_memory(problem):
            complain(jobs[0], problem, place)
            return []
    return [result for picture in pictures for result in color(model, [picture], place)]


def output_files(job: Job) -> list[Path]:
    """The pictures that a job leaves: the mask, and what else is asked for."""
    endings = [""] + overlay * ["_overlay"] + (uncertainty_passes > 0) * ["_uncertainty"]
    return [Path(output_dir, f"{job.name}{ending}.png") for ending in endings]


def write(
    job: Job, image: np.ndarray, result: Prediction, saved: dict, place: utils.Place
) -> tuple[Job, Note] | None:
    """All files of a picture, each with the job's key in it, the mask last; returns what predictions.csv needs."""
    names, colors = (
        [entry["name"] for entry in saved["classes"]],
        [entry["color"] for entry in saved["classes"]],
    )
    mask, *others = output_files(job)
    drawings = [lambda: utils.overlay(image, result.ids, names, colors)] * overlay
    if result.uncertainty is not None:
        drawings.append(lambda: draw_uncertainty(result.uncertainty, len(names)))
    try:
        for path, draw in zip(others, drawings, strict=True):
            utils.save_picture(path, draw(), key=job.key)
        utils.save_mask(
            mask,
            result.ids,
            colors,
            key=job.key,
            note=json.dumps([result.confidence, result.sums.tolist()]),
        )
        return job, (result.confidence, result.sums)
    except (MemoryError, cv2.error) as problem:
        complain(job, problem, place)
    except InputError as problem:
        if (
            getattr(problem.__cause__, "errno", 0) != errno.ENAMETOOLONG
        ):  # nothing else that keeps one file from being written would spare the next
            raise
        complain(
            job,
            InputError(
                f"{job.path} has too long a name for what is added to it, such as _overlay.png; give it a shorter one"
            ),
            place,
        )
    return None


def find_note(job: Job) -> Note | None:
    """What is known of a picture that was coloured before and has all its files."""
    if (
        job.key
        and not overwrite
        and all(utils.read_note(path, "key") == job.key for path in output_files(job))
    ):
        confidence, sums = json.loads(utils.read_note(output_files(job)[0], "note"))
        return confidence, np.array(sums)
    return None


def check_outputs(jobs: list[Job]) -> None:
    """Refuse to write over what this script has not written, such as masks made by hand."""
    foreign: list[Path] = []
    for paths in map(output_files, jobs):
        there = [path for path in paths if path.exists()]
        keys = [utils.read_note(path, "key") for path in there]
        if "" in keys or not any(keys):  # a torn one beside one of ours is ours
            foreign += [path for path, key in zip(there, keys) if not key]
    for name, head, end in (
        ("predictions.csv", "file,", ",mean_confidence"),
        *[("uncertainty.csv", "class,", ",epistemic")] * (uncertainty_passes > 0),
    ):
        with (
            suppress(OSError),
            open(Path(output_dir, name), encoding="utf-8", errors="replace") as file,
        ):
            first = file.readline().rstrip("\n")
            if not (first.startswith(head) and first.endswith(end)):
                foreign.append(Path(output_dir, name))
    if foreign:
        raise InputError(
            f"{', '.join(map(str, foreign[:5]))}{' …' * (len(foreign) > 5)} would be written over and is not from inference.py; "
            "move it away, or name another output_dir"
        )


def color_all(
    jobs: list[Job], model: nn.Module, saved: dict, place: utils.Place
) -> Iterator[tuple[Job, Note] | None]:
    """Each job and its note once its files are written; None where that failed."""
    groups = group_jobs(jobs)
    with (
        ThreadPoolExecutor(min(8, utils.cores())) as pool,
        place.autocast(),
    ):  # one autocast for all: it casts the weights once

        def begin(group: list[Job]) -> list[Future]:
            return [pool.submit(read, job, saved, place) for job in group]

        reading, writing = begin(groups[0]) if groups else [], []
        for group, following in zip(groups, [*groups[1:], []]):
            pictures = [picture for future in reading if (picture := future.result())]
            is_small = sum(job.pixels for job in [*group, *following]) <= 2 * AT_ONCE
            reading = begin(following) if is_small else []
            results = color(model, pictures, place) if pictures else []
            yield from (future.result() for future in writing)
            writing = [pool.submit(write, *result, saved, place) for result in results]
            if not is_small:  # a big picture is alone in memory
                del pictures, results
                yield from (future.result() for future in writing)
                reading, writing = begin(following), []
        yield from (future.result() for future in writing)


def write_tables(notes: list[tuple[str, Note]], names: list[str]) -> None:
    """predictions.csv: for each file its class shares and mean confidence; uncertainty.csv: for each class its uncertainties over all pictures."""
    rows, totals = [["file", *names, "mean_confidence"]], np.zeros((3, len(names)))
    for file, (confidence, sums) in notes:
        totals += sums
        rows.append(
            [file, *(f"{pixels / sum(sums[0]):.4f}" for pixels in sums[0]), f"{confidence:.4f}"]
        )
    utils.write_table(Path(output_dir, "predictions.csv"), rows)
    if uncertainty_passes:
        means = [
            [
                name,
                f"{pixels / totals[0].sum():.4f}",
                *(f"{value / pixels:.4f}" for value in values),
            ]
            for name, (pixels, *values) in zip(names, totals.T)
            if pixels
        ]
        utils.write_table(
            Path(output_dir, "uncertainty.csv"), [["class", "share", "total", "epistemic"], *means]
        )


def find_files() -> list[Path]:
    if not Path(input_dir).is_dir():
        raise InputError(f"input_dir {input_dir} is not there; make it and put pictures into it")
    if Path(output_dir).resolve() == Path(input_dir).resolve():
        raise InputError(
            f"output_dir is {output_dir}, as input_dir is; name another, so that no picture is written over"
        )
    files = list_files(Path(input_dir))
    if not files:
        raise InputError(f"no pictures in {input_dir}; put some there")
    return files


def main() -> int:
    for name, least in (("batch_size", 1), ("uncertainty_passes", 0)):
        if globals()[name] < least:
            raise InputError(f"{name} is {globals()[name]}; expected {least} or more")
    if tta and uncertainty_passes:
        raise InputError(
            "tta is True and uncertainty_passes is above 0; choose one: what six looks disagree about is not what dropout doesn't know"
        )
    place, is_first = utils.Place(device, precision), utils.rank() == 0
    utils.join_processes(place.device)
    saved = utils.from_first(lambda: utils.load_checkpoint(Path(checkpoint)))
    model, files = load_model(saved, place), utils.from_first(find_files)

    # Each process looks at its part of the files for what was done before; what is missing is shared out anew.
    weights = hashlib.sha256()
    for tensor in saved["weights"].values():
        weights.update(np.ascontiguousarray(tensor.numpy()))
    origin = fingerprint(
        weights.hexdigest(),
        saved["classes"],
        saved.get("scale"),
        tile,
        tta,
        uncertainty_passes,
        overlay,
        place.precision,
    )
    own = [
        describe_job(*item, saved, origin)
        for item in list(name_outputs(files).items())[utils.rank() :: utils.processes()]
    ]
    check_outputs(own)
    notes = {job.path: note for job in own if (note := find_note(job))}
    earlier = sum(utils.from_all(len(notes)))
    missing = sorted(
        job
        for part in utils.from_all([job for job in own if job.path not in notes])
        for job in part
    )[utils.rank() :: utils.processes()]
    with tqdm(total=len(missing), desc="colouring", unit="picture", disable=not is_first) as bar:
        for done in color_all(missing, model, saved, place):
            bar.update()
            notes |= {done[0].path: done[1]} if done else {}
    notes = {path: note for part in utils.from_all(notes) for path, note in part.items()}
    failed = len(files) - len(notes)
    if is_first:
        write_tables(
            [(path.name, notes[path]) for path in files if path in notes],
            [entry["name"] for entry in saved["classes"]],
        )
    utils.from_all(None)  # torchrun ends the others as soon as one says that something failed
    before = f", {earlier} of them before (overwrite=true does them again)" * bool(earlier)
    print(
        f"{len(notes)} of {len(files)} pictures coloured{before}{f', {failed} could not be' * bool(failed)}; see {output_dir}"
    )
    return 1 if failed and is_first else 0


if __name__ == "__main__":
    utils.run_script(globals(), main)
