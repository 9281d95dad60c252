"""A plan written down: the number of steps that fits, the recipe with its reasons, and what to
expect of it."""

import json
import textwrap
from datetime import date
from typing import NamedTuple

from toolbox.choosing import as_size
from toolbox.errors import InputError
from toolbox.machine import Place
from toolbox.planning import Plan
from toolbox.prepared import Data
from toolbox.processes import cores
from toolbox.traits import Traits

EVALUATIONS = 6  # in a run
SEEN_MOST = 0.05  # share of the time that they may take
DRAWING = 10.0  # seconds: curves and sheets, at the end and along the way
FEWEST = 100  # steps that are worth a run


class Trial(NamedTuple):
    """What was measured of a run: seconds of a step, of an evaluation at eval_iterations and of
    judging all pictures at the end, and pictures to train on."""

    step: float
    evaluation: float
    judging: float
    pictures: int


def set_steps(planned: Plan, constants: dict, trial: Trial, seconds: float) -> None:
    """As many steps as are left when all else has its time."""
    share = min(1.0, SEEN_MOST * seconds / (EVALUATIONS * trial.evaluation))
    looked_at = max(1, int(constants["eval_iterations"] * share))
    evaluating = EVALUATIONS * trial.evaluation * looked_at / constants["eval_iterations"]
    left = seconds - trial.judging - evaluating - DRAWING
    steps = int(left / trial.step)
    if steps < FEWEST:
        need = round((seconds - left + FEWEST * trial.step) / 60 + 0.5)
        raise InputError(
            f"there is time for {max(0, steps)} steps, and less than {FEWEST} teach little: "
            f"judging takes {trial.judging:.0f} s here and a step {trial.step:.2g} s; give it "
            f"minutes={need} or more"
        )
    batch, parts = constants["batch_size"], constants["accum_steps"]
    why = "small enough for many steps, large enough for batch norm"
    if parts > 1:
        why = f"memory has room for no more at once; accum_steps = {parts} makes up for it"
    planned.set("batch_size", batch, why)
    planned.set("accum_steps", parts, "micro-batches to a step")
    epochs = steps * batch * parts / trial.pictures
    planned.set(
        "training_iterations",
        steps,
        f"{trial.step * 1000:.0f} ms a step here, measured; each picture is seen {epochs:.0f}×",
    )
    planned.set("warmup_steps", max(20, min(100, steps // 10)), "a tenth of the steps, at most 100")
    every = -(-steps // EVALUATIONS)
    planned.set("eval_interval", every, f"{EVALUATIONS} evaluations")
    planned.set("eval_iterations", looked_at, f"they take at most {SEEN_MOST:.0%} of the time so")
    planned.set("save_model_interval", every, "as often")
    planned.set(
        "patience", 0, "never stopped early: with this rate the best weights come at the end"
    )


def written(value: object) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)


def recipe_text(planned: Plan, own: dict, data: Data, place: Place, minutes: float) -> str:
    """A recipe: each constant under its reason."""
    device = f"{place}, {cores()} cores" if place.device.type == "cpu" else str(place)
    lines = [
        f'"""{data.name} within {minutes:g} minutes, planned on {date.today()} for {device}.',
        "",
        "Each line has its reason above it. Change what you know better; the rest is as in",
        "train.py.",
        '"""',
        "",
    ]
    lines += [f"{name} = {written(value)}" for name, value in own.items()]
    for name, value in planned.constants.items():
        lines.append("")
        lines += textwrap.wrap(
            planned.reasons[name], 98, initial_indent="# ", subsequent_indent="# "
        )
        lines.append(f"{name} = {written(value)}")
    return "\n".join(lines) + "\n"


def expectation(planned: Plan, trial: Trial, traits: Traits, minutes: float, twice: str) -> str:
    """What the run will take, and what more time would be for."""
    chosen = planned.constants
    steps = chosen["training_iterations"]
    seen = steps * chosen["batch_size"] * chosen["accum_steps"]
    return "\n".join(
        [
            f"{traits.pictures} pictures to train on, {as_size(traits.shape)}; planned at "
            f"{as_size(chosen['image_size'])}: {planned.reasons['image_size']}",
            f"to expect: {minutes:g} minutes, of which {steps * trial.step / 60:.1f} are "
            f"{steps:,} steps ({seen / traits.pictures:.0f} epochs) and {trial.judging / 60:.1f} "
            "judging",
            f"twice the minutes would go into {twice}",
        ]
    )
