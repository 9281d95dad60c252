"""Many pictures: threads read what comes next and write what is done while the net works."""

import errno
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from toolbox import processes
from toolbox.bars import Counting
from toolbox.drawings import drawing
from toolbox.errors import InputError, few, is_out_of_memory
from toolbox.inputs import Inputs
from toolbox.machine import Place
from toolbox.masks import read_image, resize_image
from toolbox.outputs import Job, Note, Outputs, name_outputs
from toolbox.pages.cards import Shots
from toolbox.stacks import count_frames
from toolbox.tiles import Prediction

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

AT_ONCE = 64_000_000  # pixels in memory, read, coloured or written; a bigger picture is alone there
IN_NET = 2**23  # pixels that go through the net together, however large batch_size is


class Picture(NamedTuple):
    """A picture that was read: as it is, and as the net takes it."""

    job: Job
    image: np.ndarray
    small: np.ndarray


class Colouring:
    """How the pictures of one run of inference.py are coloured, from files to files.

    every are the checkpoints whose mean counts, mostly one. predict gives Predictions for a batch
    (B, h, w, 3) of pictures that had these heights and widths; net_size is the size at which a
    picture of some height and width goes into the net.
    """

    def __init__(
        self,
        constants: dict,
        every: Sequence[dict],
        place: Place,
        predict: Callable[[list[tuple[int, int]], np.ndarray], list[Prediction]],
        net_size: Callable[[tuple[int, ...]], Sequence[int]],
    ):
        self.constants, self.place = constants, place
        self.predict, self.net_size = predict, net_size
        self.outputs = Outputs(constants, every, place)
        self.frames: dict[Path, int] = {}  # of each file that was read
        self.shots = Shots(self.outputs.colors, 0)  # small ones, for the page

    # ---- one picture ----

    def describe(self, path: Path, label: str) -> Job:
        # Why one can't be opened is said when it is read.
        with suppress(Exception), Image.open(path) as picture:
            size = tuple(self.net_size((picture.height, picture.width)))
            key = self.outputs.key(path, label)
            return Job(path, "", key, picture.width * picture.height, size)
        return Job(path, "", "", 0, ())

    def complain(self, job: Job, problem: Exception) -> None:
        """Name a picture that can't be coloured; the others go on."""
        if is_out_of_memory(problem):
            problem = InputError(
                f"{job.path} is too big for the memory of {self.place}; cut it, or try tile=true "
                "or device=cpu"
            )
        if not isinstance(problem, InputError):
            raise problem
        tqdm.write(str(problem), file=sys.stderr)

    def read(self, job: Job) -> Picture | None:
        try:
            image = read_image(job.path)
            self.frames[job.path] = count_frames(job.path)
            return Picture(job, image, resize_image(image, self.net_size(image.shape)))
        except (InputError, MemoryError, cv2.error) as problem:
            self.complain(job, problem)
        return None

    def color(self, batch: list[Picture]) -> list[tuple[Picture, Prediction]]:
        """Predictions for a batch; where memory is too short for all of it at once, one by one."""
        try:
            # A picture may be turned by its EXIF, and then be of another size than the others.
            if len({picture.small.shape for picture in batch}) == 1:
                smalls = [picture.small for picture in batch]
                together = np.stack(smalls) if len(smalls) > 1 else smalls[0][None]
                shapes = [picture.image.shape[:2] for picture in batch]
                return list(zip(batch, self.predict(shapes, together)))
        except (RuntimeError, MemoryError) as problem:
            if len(batch) == 1 or not is_out_of_memory(problem):
                self.complain(batch[0].job, problem)
                return []
        return list(chain.from_iterable(self.color([picture]) for picture in batch))

    def write(self, picture: Picture, found: Prediction) -> tuple[Job, Note] | None:
        job = picture.job
        try:
            note = self.outputs.write(job, picture.image, found)
            with drawing(job.path, "the page goes without it"):
                self.shots.add(job.key, found.confidence, picture.image, found.ids)
            return job, note
        except (MemoryError, cv2.error) as problem:
            self.complain(job, problem)
        except InputError as problem:
            # Nothing else that keeps one file from being written would spare the next.
            if getattr(problem.__cause__, "errno", 0) != errno.ENAMETOOLONG:
                raise
            too_long = "too long a name for what is added to it, such as _overlay.png"
            self.complain(job, InputError(f"{job.path} has {too_long}; give it a shorter one"))
        return None

    # ---- all of them ----

    def group(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """Batches in order: pictures of one size for the net, as many as batch_size and memory
        allow."""
        groups: list[list[Job]] = []
        most = self.constants["batch_size"]
        if self.outputs.uncertainty:  # the dropout of one would depend on its neighbours
            most = 1
        held = in_net = 0  # pixels of the last group
        for job in jobs:
            held, in_net = held + job.pixels, in_net + math.prod(job.size)
            is_like = bool(groups) and job.size == groups[-1][0].size and len(groups[-1]) < most
            if is_like and held <= AT_ONCE and in_net <= IN_NET:
                groups[-1].append(job)
            else:
                groups.append([job])
                held, in_net = job.pixels, math.prod(job.size)
        return groups

    def color_all(self, jobs: Sequence[Job]) -> Iterator[tuple[Job, Note] | None]:
        """Each job and its note once its files are written; None where that failed."""
        groups = self.group(jobs)
        # One autocast for all: it casts the weights once.
        with ThreadPoolExecutor(min(8, processes.cores())) as pool, self.place.autocast():

            def begin(group: list[Job]) -> list[Future]:
                return [pool.submit(self.read, job) for job in group]

            reading, writing = begin(groups[0]) if groups else [], []
            for group, following in zip(groups, [*groups[1:], []]):
                read = [future.result() for future in reading]
                batch = [picture for picture in read if picture]
                is_small = sum(job.pixels for job in [*group, *following]) <= 2 * AT_ONCE
                reading = begin(following) if is_small else []
                results = self.color(batch) if batch else []
                yield from (future.result() for future in writing)
                writing = [pool.submit(self.write, *result) for result in results]
                if not is_small:  # a big picture is alone in memory
                    del batch, results
                    yield from (future.result() for future in writing)
                    reading, writing = begin(following), []
            yield from (future.result() for future in writing)

    def describe_all(self, found: Inputs) -> list[Job]:
        """This process's part of what may be a picture, without what never was one."""
        labels = found.labels()
        jobs = [self.describe(*item) for item in processes.own(list(labels.items()))]
        unopened = processes.joined([job.path for job in jobs if not job.key])
        others = found.others(unopened)
        for path in others:
            del found.places[path]
        found.say(others)
        names = name_outputs(found.places)
        return [job._replace(name=names[job.path]) for job in jobs if job.path in names]

    def say_frames(self) -> None:
        """Which files hold more than was coloured."""
        counted = processes.joined(list(self.frames.items()))
        longer = [f"{path.name} ({count} frames)" for path, count in sorted(counted) if count > 1]
        if longer:
            print(f"only the first frame was coloured of {few(longer)}")

    def run(self) -> int:
        """Colour what is missing, shared out among the processes; returns the exit status."""
        found = processes.from_first(self.outputs.find_pictures)
        own = self.describe_all(found)
        self.outputs.check(own, found.places)
        self.outputs.sweep(own)
        self.shots = Shots(self.outputs.colors, len(found.places))
        found_notes = {job.path: self.outputs.find_note(job) for job in own}
        notes = {path: note for path, note in found_notes.items() if note}
        earlier = sum(processes.from_all(len(notes)))
        lacking = sorted(processes.joined([job for job in own if job.path not in notes]))
        there = {job.path for job in lacking if self.outputs.files(job)[0].exists()}
        processes.from_all(None)  # all have looked
        missing = processes.own(lacking)
        look = {"desc": "colouring", "unit": "picture", "disable": processes.rank() > 0}
        with Counting(total=len(missing), **look) as bar:
            for done in self.color_all(missing):
                bar.update()
                if done:
                    notes[done[0].path] = done[1]
        all_notes = processes.from_all(notes)
        notes = dict(chain.from_iterable(part.items() for part in all_notes))
        jobs = {job.path: job for job in processes.joined(own)}
        for kept in processes.from_all(self.shots.kept):
            self.shots.kept.update(kept)
        self.say_frames()
        if processes.is_first():
            labels = found.labels()
            rows = [(labels[path], notes[path]) for path in found.places if path in notes]
            if rows:  # else the tables of before are still the best there are
                self.outputs.write_tables(rows)
                done = [jobs[path] for path in found.places if path in notes]
                self.outputs.write_page([(*row, job) for row, job in zip(rows, done)], self.shots)
        # torchrun ends the others as soon as one says that something failed
        processes.from_all(None)
        count = len(found.places) + len(found.unfit)
        failed = count - len(notes)
        before = f", {earlier} of them before (overwrite=true does them again)" if earlier else ""
        anew = len(there & notes.keys())
        instead = f", {anew} of them in place of earlier ones" if anew else ""
        missed = f", {failed} could not be" if failed else ""
        where = self.outputs.output_dir
        print(f"{len(notes)} of {count} pictures coloured{before}{instead}{missed}; see {where}")
        return 1 if failed and processes.is_first() else 0
