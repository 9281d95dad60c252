"""While a run goes on: its seconds, its bar on the terminal, and what to draw of it in the end."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from toolbox.bars import Counting
from toolbox.processes import is_first, processes

from torch import Tensor

COUNTED = ("seconds", "training_seconds", "waiting_seconds")


@dataclass
class Clock:
    """Seconds of a run, with those before it was stopped and taken up again."""

    seconds: float = 0.0
    training_seconds: float = 0.0  # evaluations left out
    waiting_seconds: float = 0.0  # for pictures
    start: float | None = None

    def tick(self) -> None:
        if self.start is None:
            self.start = time.perf_counter() - self.seconds
        self.seconds = time.perf_counter() - self.start

    @contextmanager
    def add_to(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            setattr(self, name, getattr(self, name) + time.perf_counter() - began)

    def wait_for(self, batches: Iterator) -> tuple[Tensor, Tensor]:
        with self.add_to("waiting_seconds"):
            return next(batches)

    def waited(self) -> float:
        """The share of the time in training that was waiting for pictures."""
        return self.waiting_seconds / max(self.training_seconds, 1e-9)

    def state(self) -> dict:
        return {name: getattr(self, name) for name in COUNTED}

    def load(self, state: dict) -> None:
        for name in COUNTED:
            setattr(self, name, state.get(name, 0.0))


class Thinned(dict):
    """Predictions along the way, by step: of many a few, evenly, so that last.pth stays small."""

    most = 8

    def add(self, step: int, preds: Tensor) -> None:
        """Where there are too many, the one goes that leaves the smallest gap; the first stays."""
        self[step] = preds
        if len(self) > self.most:
            steps = sorted(self)
            gaps = {at: after - before for before, at, after in zip(steps, steps[1:], steps[2:])}
            del self[min(gaps, key=gaps.get)]


def judging(batches: Iterator, count: int) -> Iterator[Tensor]:
    """The logits of batches of `count` pictures, which a bar on the terminal counts."""
    look = {"unit": "picture", "leave": False, "disable": not is_first()}
    with Counting(total=count, desc="judging", **look) as bar:
        for logits, _ in batches:
            yield logits
            bar.update(len(logits) * processes())


class Bar(Counting):
    """Steps, loss, rate and speed on the terminal."""

    def took(self, loss: float, rate: float, speed: float, skipped: int) -> None:
        left_out = f", {skipped} skipped" if skipped else ""
        words = f"loss {loss:.3f}, lr {rate:.1e}, {speed:.1f} images/s"
        self.set_postfix_str(words + left_out, refresh=False)
        self.update()
