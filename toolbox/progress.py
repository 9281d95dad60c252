"""How far a run is: its steps, rates and evaluations, whether one is due, and what to say of it."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path

from toolbox import advice, processes
from toolbox.best import best_of, since_rise
from toolbox.errors import InputError
from toolbox.machine import Machinery, Place
from toolbox.prepared import Data
from toolbox.settings import training_scales, training_sizes
from toolbox.stages import count_parameters
from toolbox.watch import Bar, Clock, Thinned

import torch
from torch import Tensor, nn


def count_plateaus(losses: Sequence[float], patience: int) -> int:
    """How many times `patience` evaluations in a row brought no lower loss."""
    count, waited, lowest = 0, 0, math.inf
    for loss in losses:
        waited = 0 if loss < lowest else waited + 1
        lowest = min(lowest, loss)
        if waited == patience:
            count, waited = count + 1, 0
    return count


class Progress:
    """train.py's Training fills in model, machine, splits and stream, and has a rate_at()."""

    model: nn.Module
    machine: Machinery

    def __init__(self, constants: dict, data: Data, place: Place):
        self.constants, self.data, self.place = constants, data, place
        self.folder = Path()
        self.step = 0
        self.rates: list[float] = []  # of each step
        self.losses: list[float] = []  # of each since the start or the last resuming
        self.history: list[dict] = []  # a row for each evaluation
        self.seen = Thinned()
        self.clock = Clock()
        self.adviser = advice.Adviser()
        self.only_class = -1  # the one that the last evaluation took all validation pixels for

    # ---- where it stands ----

    def images_per_step(self) -> int:
        of_one = self.constants["accum_steps"] * self.constants["batch_size"]
        return of_one * processes.processes()

    def images_per_scale(self) -> int:
        """Of the whole run's, for each training_scale, in whole steps."""
        scales = len(training_scales(self.constants))
        return math.ceil(self.constants["training_iterations"] / scales) * self.images_per_step()

    def images_seen(self) -> int:
        return self.step * self.images_per_step()

    def speed(self) -> float:
        """Images a second while training."""
        return self.images_seen() / max(self.clock.training_seconds, 1e-9)

    def epochs(self) -> float:
        """How often the whole run sees each picture."""
        images = self.constants["training_iterations"] * self.images_per_step()
        return images / len(self.data.splits["train"])

    def plateaus(self) -> int:
        """How often validation has stood still."""
        losses = [row["val_loss"] for row in self.history]
        return count_plateaus(losses, self.constants["plateau_patience"])

    def is_judged(self) -> bool:
        """Whether there is an evaluation of this step."""
        return bool(self.history) and self.history[-1]["step"] == self.step

    def is_due(self) -> bool:
        """Whether an evaluation is outstanding: one that a signal cut off is made up for later."""
        is_last = self.step >= self.constants["training_iterations"]
        is_time = self.step % self.constants["eval_interval"] == 0
        return self.step > 0 and not self.is_judged() and (is_time or is_last)

    def is_time_to_save(self) -> bool:
        return self.step % self.constants["save_model_interval"] == 0 or self.is_over()

    def is_over(self) -> bool:
        if self.step >= self.constants["training_iterations"]:
            return True
        return 0 < self.constants["patience"] <= since_rise(self.history)

    def best_row(self) -> int:
        """Which evaluation had the best weights."""
        return best_of(self.history)

    # ---- a step ----

    def note_step(self, step: int, rate: float, loss: float) -> None:
        """A step was taken."""
        self.step = step
        self.rates.append(rate)
        self.losses.append(loss)
        self.clock.tick()

    def show_step(self, bar: Bar) -> None:
        bar.took(self.losses[-1], self.rates[-1], self.speed(), self.machine.skipped)

    def checked_loss(self, rate: float, total: Tensor, norm: Tensor) -> float:
        """The step's loss over all processes; where it or the gradient is no number, the run stops
        before the weights change."""
        mean = processes.mean_of_all(total)
        loss_value, norm_value = torch.stack([mean, norm]).tolist()  # the one wait for the device
        if not self.machine.is_sound(loss_value, norm_value):
            first = self.images_seen()
            positions = range(first, first + self.images_per_step())
            files = self.data.files([self.stream.row(position) for position in positions])
            found = (self.step + 1, rate, loss_value, norm_value)
            raise InputError(advice.explain_not_finite(*found, self.place.precision, files))
        return loss_value

    def warn(self, bar: Bar) -> None:
        """At the start, after a tenth and after each evaluation: what is likely to be wrong."""
        tenth = self.constants["training_iterations"] // 10
        if self.is_judged() or self.step in (0, tenth):
            for sentence in self.adviser.new_warnings(self.facts()):
                bar.write(sentence)

    def facts(self) -> advice.Facts:
        counts = {split: self.data.counts(split) for split in self.data.splits}
        rates = self.planned_rates() if self.step == 0 else []
        return advice.Facts(
            self.constants,
            self.data.table.names,
            counts,
            self.step,
            self.history,
            self.losses,
            rates,
            self.only_class,
        )

    def planned_rates(self) -> list[float]:
        """The rates of the steps to come, as far as they are known."""
        last = self.constants["training_iterations"]
        return [self.rate_at(step) for step in range(self.step + 1, last + 1)]

    # ---- in words ----

    def opening_line(self) -> str:
        """What is trained, for how long, and where its files are."""
        parts = [f"{count_parameters(self.model):,} parameters on {self.place}"]
        if processes.processes() > 1:
            parts[0] += f", {processes.processes()} processes"
        parts.append(
            f"{self.constants['training_iterations']} steps are {self.epochs():.1f} epochs"
        )
        sizes = training_sizes(self.constants)
        if sizes != [tuple(self.constants["image_size"])]:
            parts[-1] += " at " + ", ".join(f"{width}×{height}" for height, width in sizes)
        parts.append(f"the run's files are in {self.folder}")
        if self.step:
            parts.append(f"it goes on after step {self.step}")
        return "; ".join(parts)

    def stopped_line(self, arguments: Sequence[str]) -> str:
        """How to go on with a run that a signal stopped."""
        kept = [argument for argument in arguments if not argument.startswith("resume=")]
        run, where = self.folder, ""
        if self.constants["folds"]:
            run, where = run.parent, f" of {run.name}"
        command = shlex.join([*kept, f"resume={run.as_posix()}"])
        starter = processes.starter()
        return f"stopped after step {self.step}{where}; to go on: {starter} train.py {command}"

    def closing_line(self) -> str:
        if self.constants["folds"]:
            return f"{self.folder.name} is done; pictures, curves and report: {self.folder}"
        where = f"pictures, curves and report: {self.folder}"
        return f"weights: unet_model.pth, the best by validation; {where}"
