"""What inference.py leaves: names that never meet, what was coloured before, and the tables."""

import csv
import hashlib
import io
import json
import math
import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from toolbox import pictures
from toolbox.errors import InputError
from toolbox.files import check_writable, fingerprint, write_table
from toolbox.inputs import Inputs, find_inputs
from toolbox.machine import Place
from toolbox.pages.cards import Card, Shots
from toolbox.pages.inference_page import write_inference_page
from toolbox.settings import pick
from toolbox.sweeping import is_old, sweep_torn, written_aside
from toolbox.tiles import Prediction

import numpy as np

HEAD = 2**20  # letters of a table that its columns' names must be in

Note = tuple[float, np.ndarray]  # what the tables need: a prediction's confidence and sums


class Job(NamedTuple):
    """A picture to colour."""

    path: Path
    name: str  # of its files in output_dir
    key: str  # names the picture, the checkpoint and the settings, and stands in all its files
    pixels: int
    size: tuple[int, ...]  # in the net


def folded(name: Path | str) -> str:
    """The same for names that some disks take for one: Cat and cat, é in one sign and in two."""
    text = name.as_posix() if isinstance(name, Path) else name
    return unicodedata.normalize("NFC", text).casefold()


def name_outputs(places: dict[Path, Path]) -> dict[Path, str]:
    """A name for each picture's files below output_dir, its place without ending where that is
    free: cat.jpg and cat.png never share, nor do two pictures of one place, nor a folder and a
    file."""
    stems = Counter(folded(place.with_name(place.stem)) for place in places.values())
    names: dict[Path, str] = {}
    folders = chain.from_iterable(place.parents for place in places.values())
    taken = set(map(folded, folders))
    for path, place in places.items():
        short = place.with_name(place.stem)
        name = (short if stems[folded(short)] == 1 else place).as_posix()
        own = outputs_of(name)
        while taken & own:
            name += "_"
            own = outputs_of(name)
        taken |= own
        names[path] = name
    return names


def outputs_of(name: str) -> set[str]:
    return {folded(f"{name}{ending}.png") for ending in ("", "_overlay", "_uncertainty")}


def is_own_table(path: Path, first: str, last: str) -> bool:
    """Whether a table's columns are those that write_tables gives it."""
    with suppress(OSError, csv.Error), open(path, encoding="utf-8", errors="replace") as file:
        columns = next(csv.reader(io.StringIO(file.read(HEAD))), [])
        return columns[:1] == [first] and columns[-1:] == [last]
    return False


def origin_of(every: Sequence[dict], settings: Sequence) -> str:
    """Names the weights and classes of the checkpoints, and the settings that pictures are coloured
    with."""
    weights, first = hashlib.sha256(), every[0]
    for saved in every:
        for tensor in saved["weights"].values():
            weights.update(np.ascontiguousarray(tensor.numpy()))
    return fingerprint(weights.hexdigest(), first["classes"], first.get("scale"), *settings)


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

    def __init__(self, constants: dict, every: Sequence[dict], place: Place):
        self.constants = constants
        self.output_dir = constants["output_dir"]
        self.uncertainty = constants["uncertainty_passes"] > 0
        self.names = [entry["name"] for entry in every[0]["classes"]]
        self.colors = [entry["color"] for entry in every[0]["classes"]]
        chosen = [constants[name] for name in ("tile", "tta", "uncertainty_passes", "overlay")]
        self.origin = origin_of(every, [*chosen, place.precision])

    def find_pictures(self) -> Inputs:
        """What may be coloured."""
        return find_inputs(*pick(self.constants, "input_dir output_dir recursive"))

    def key(self, path: Path, label: str) -> str:
        """Names the picture, the checkpoint and the settings, and stands in all of its files."""
        facts, place = path.stat(), os.path.realpath(path)  # two folders may hold the same names
        return fingerprint(self.origin, label, place, facts.st_size, facts.st_mtime_ns)

    def kinds(self) -> dict[str, str]:
        """What a job leaves: the mask, and what else is asked for, each with its name's ending."""
        endings = {"mask": ""}
        if self.constants["overlay"]:
            endings["overlay"] = "_overlay"
        if self.uncertainty:
            endings["uncertainty"] = "_uncertainty"
        return endings

    def files(self, job: Job) -> list[Path]:
        endings = self.kinds().values()
        return [Path(self.output_dir, f"{job.name}{ending}.png") for ending in endings]

    def find_note(self, job: Job) -> Note | None:
        """What is known of a picture that was coloured before and has all its files."""
        files = self.files(job)
        if not job.key or self.constants["overwrite"]:
            return None
        if any(pictures.read_note(path, "key") != job.key for path in files):
            return None
        with suppress(TypeError, ValueError):  # another program has written it anew
            confidence, sums = json.loads(pictures.read_note(files[0], "note"))
            return confidence, np.array(sums)
        return None

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

    def foreign_of(self, job: Job, kept: set[str]) -> list[Path]:
        """What lies where a job's files go, and is not from inference.py or is to be coloured
        itself."""
        there = [path for path in self.files(job) if os.path.lexists(path)]
        foreign = [path for path in there if not path.is_file()]
        foreign += [path for path in there if os.path.realpath(path) in kept]
        keys = [pictures.read_note(path, "key") for path in there]
        if "" in keys or not any(keys):  # a torn one beside one of ours is ours
            foreign += [path for path, key in zip(there, keys) if not key]
        for folder in Path(self.output_dir, job.name).parents:
            if os.path.lexists(folder) and not folder.is_dir():
                foreign.append(folder)
        return foreign

    def check(self, jobs: Sequence[Job], inputs: Collection[Path]) -> None:
        """Refuse to write over what inference.py has not written, such as masks made by hand, and
        over any of the pictures themselves."""
        check_writable(Path(self.output_dir))
        kept = {os.path.realpath(path) for path in inputs}
        foreign = list(chain.from_iterable(self.foreign_of(job, kept) for job in jobs))
        tables = {"predictions.csv": ("file", "mean_confidence")}
        if self.uncertainty:
            tables["uncertainty.csv"] = ("class", "epistemic")
        for name, ends in tables.items():
            path = Path(self.output_dir, name)
            if os.path.lexists(path) and not (path.is_file() and is_own_table(path, *ends)):
                foreign.append(path)
        foreign = list(dict.fromkeys(foreign))
        if foreign:
            more = f" … {len(foreign)} in all" if len(foreign) > 5 else ""
            raise InputError(
                f"{', '.join(map(str, foreign[:5]))}{more} would be written over and is not from "
                "inference.py; move it away, or name another output_dir"
            )

    def sweep(self, jobs: Sequence[Job]) -> None:
        """Take away what a kill left half written, a day later: another run may be at it now."""
        files = set(chain.from_iterable(map(self.files, jobs)))
        for folder in {path.parent for path in files}:
            torn = [path for path in folder.glob(".*.tmp") if folder / written_aside(path) in files]
            sweep_torn(filter(is_old, torn))

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

    def write_page(self, results: Sequence[tuple[str, Note, Job]], shots: Shots) -> None:
        """index.html: a card for each row of predictions.csv."""
        cards, kinds = [], self.kinds().items()
        for label, (confidence, sums), job in results:
            pixels = sums[0].sum()
            unsure = float(sums[1].sum() / pixels) if self.uncertainty else None
            shares = sums[0] / pixels
            files = {kind: f"{job.name}{ending}.png" for kind, ending in kinds}
            cards.append(Card(label, job.path, files, job.key, confidence, shares, unsure))
        write_inference_page(cards, shots, self.names, Path(self.output_dir))
