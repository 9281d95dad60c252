"""What inference.py leaves: names that never meet, what was coloured before, and the tables."""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from toolbox import pictures
from toolbox.errors import InputError
from toolbox.files import fingerprint, list_files, write_table
from toolbox.machine import Place
from toolbox.tiles import Prediction

Note = tuple[float, np.ndarray]  # what the tables need: a prediction's confidence and sums


class Job(NamedTuple):
    """A picture to colour."""

    path: Path
    name: str  # of its files in output_dir
    key: str  # names the picture, the checkpoint and the settings, and stands in all its files
    pixels: int
    size: tuple[int, ...]  # in the net


def name_outputs(files: Sequence[Path]) -> dict[Path, str]:
    """A name for each picture's files, its stem where that is free: cat.jpg and cat.png never
    share."""
    stems = Counter(path.stem.lower() for path in files)
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for path in files:
        name = path.stem if stems[path.stem.lower()] == 1 else path.name
        own = outputs_of(name)
        while taken & own:
            name += "_"
            own = outputs_of(name)
        taken |= own
        names[path] = name
    return names


def outputs_of(name: str) -> set[str]:
    return {f"{name}{ending}".lower() for ending in ("", "_overlay", "_uncertainty")}


def origin_of(saved: dict, settings: Sequence) -> str:
    """Names a checkpoint's weights and classes, and the settings that pictures are coloured
    with."""
    weights = hashlib.sha256()
    for tensor in saved["weights"].values():
        weights.update(np.ascontiguousarray(tensor.numpy()))
    return fingerprint(weights.hexdigest(), saved["classes"], saved.get("scale"), *settings)


def draw_uncertainty(uncertainty: np.ndarray, num_classes: int) -> np.ndarray:
    """Total and epistemic uncertainty (2, H, W) side by side, on scales that are the same for
    all."""
    # In nats: all classes alike; the passes seldom disagree by more than a quarter of it.
    tops = (math.log(num_classes), math.log(num_classes) / 4)
    panels, captions = [], []
    for values, top, side, kind in zip(
        uncertainty, tops, ("left", "right"), ("total", "epistemic")
    ):
        panels.append(pictures.heat(values / top))
        captions.append(f"{side}: {kind}, white = {top:.2f} nats")
    both = np.concatenate(panels, axis=1)
    return pictures.with_legend(both, captions, [(255, 255, 255)] * 2)


class Outputs:
    """The files of one run of inference.py, whose constants these are."""

    def __init__(self, constants: dict, saved: dict, place: Place):
        self.constants = constants
        self.output_dir = constants["output_dir"]
        self.uncertainty = constants["uncertainty_passes"] > 0
        self.names = [entry["name"] for entry in saved["classes"]]
        self.colors = [entry["color"] for entry in saved["classes"]]
        chosen = [constants[name] for name in ("tile", "tta", "uncertainty_passes", "overlay")]
        self.origin = origin_of(saved, [*chosen, place.precision])

    def find_pictures(self) -> list[Path]:
        """What is to be coloured."""
        input_dir = self.constants["input_dir"]
        if not Path(input_dir).is_dir():
            raise InputError(
                f"input_dir {input_dir} is not there; make it and put pictures into it"
            )
        if Path(self.output_dir).resolve() == Path(input_dir).resolve():
            raise InputError(
                f"output_dir is {self.output_dir}, as input_dir is; name another, so that no "
                "picture is written over"
            )
        files = list_files(Path(input_dir))
        if not files:
            raise InputError(f"no pictures in {input_dir}; put some there")
        return files

    def key(self, path: Path) -> str:
        """Names the picture, the checkpoint and the settings, and stands in all of its files."""
        facts = path.stat()
        return fingerprint(self.origin, path.name, facts.st_size, facts.st_mtime_ns)

    def files(self, job: Job) -> list[Path]:
        """The pictures that a job leaves: the mask, and what else is asked for."""
        endings = [""]
        if self.constants["overlay"]:
            endings.append("_overlay")
        if self.uncertainty:
            endings.append("_uncertainty")
        return [Path(self.output_dir, f"{job.name}{ending}.png") for ending in endings]

    def find_note(self, job: Job) -> Note | None:
        """What is known of a picture that was coloured before and has all its files."""
        files = self.files(job)
        if not job.key or self.constants["overwrite"]:
            return None
        if any(pictures.read_note(path, "key") != job.key for path in files):
            return None
        confidence, sums = json.loads(pictures.read_note(files[0], "note"))
        return confidence, np.array(sums)

    def write(self, job: Job, image: np.ndarray, found: Prediction) -> Note:
        """All files of a picture, each with the job's key in it, the mask last."""
        mask, *others = self.files(job)
        if self.constants["overlay"]:
            drawn = pictures.overlay(image, found.ids, self.names, self.colors)
            pictures.save_picture(others[0], drawn, key=job.key)
        if self.uncertainty:
            drawn = draw_uncertainty(found.uncertainty, len(self.names))
            pictures.save_picture(others[-1], drawn, key=job.key)
        note = json.dumps([found.confidence, found.sums.tolist()])
        pictures.save_mask(mask, found.ids, self.colors, key=job.key, note=note)
        return found.confidence, found.sums

    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse to write over what inference.py has not written, such as masks made by hand."""
        foreign: list[Path] = []
        for job in jobs:
            there = [path for path in self.files(job) if path.exists()]
            keys = [pictures.read_note(path, "key") for path in there]
            if "" in keys or not any(keys):  # a torn one beside one of ours is ours
                foreign += [path for path, key in zip(there, keys) if not key]
        tables = {"predictions.csv": ("file,", ",mean_confidence")}
        if self.uncertainty:
            tables["uncertainty.csv"] = ("class,", ",epistemic")
        for name, (head, end) in tables.items():
            path = Path(self.output_dir, name)
            with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
                first = file.readline().rstrip("\n")
                if not (first.startswith(head) and first.endswith(end)):
                    foreign.append(path)
        if foreign:
            more = " …" if len(foreign) > 5 else ""
            raise InputError(
                f"{', '.join(map(str, foreign[:5]))}{more} would be written over and is not from "
                "inference.py; move it away, or name another output_dir"
            )

    def write_tables(self, notes: Sequence[tuple[str, Note]]) -> None:
        """predictions.csv: for each file its class shares and mean confidence; uncertainty.csv: for
        each class its uncertainties over all pictures."""
        rows, totals = [["file", *self.names, "mean_confidence"]], np.zeros((3, len(self.names)))
        for file, (confidence, sums) in notes:
            totals += sums
            shares = [f"{pixels / sum(sums[0]):.4f}" for pixels in sums[0]]
            rows.append([file, *shares, f"{confidence:.4f}"])
        write_table(Path(self.output_dir, "predictions.csv"), rows)
        if self.uncertainty:
            rows = [["class", "share", "total", "epistemic"]]
            for name, (pixels, *values) in zip(self.names, totals.T):
                if pixels:
                    means = [f"{value / pixels:.4f}" for value in values]
                    rows.append([name, f"{pixels / totals[0].sum():.4f}", *means])
            write_table(Path(self.output_dir, "uncertainty.csv"), rows)
