"""A plan written down: the number of steps that fits, the recipe with its reasons, and what to
expect of it."""

import json
import math
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from toolbox.errors import InputError
from toolbox.files import own_path
from toolbox.planning import Plan, set_strength

EVALUATIONS = (6, 4, 2)  # in a run: the first that fit
SEEN_MOST = 0.05  # share of the time that they may take
FEWEST = 100  # steps that are worth a run
MOST_STEPS = 10**7  # that train.py takes


class Trial(NamedTuple):
    """What was measured of a run, in seconds."""

    start: float  # until the first step, and what the first steps take longer
    step: float
    look: float  # at one picture, in an evaluation
    drawing: float  # of an evaluation, and a save
    end: float  # judging all pictures, drawing
    memory: int  # bytes at most, of the process or of the GPU


def check_time(trial: Trial, steps: int) -> None:
    if steps >= FEWEST:
        return
    need = (trial.start + trial.end + FEWEST * trial.step) / (1 - SEEN_MOST) / 60
    raise InputError(
        f"there is time for {max(0, steps)} steps, and less than {FEWEST} teach little: beside "
        f"them a run takes {trial.start + trial.end:.0f} s here, and a step {trial.step:.2g} s; "
        f"give it minutes={math.ceil(1.1 * need)} or more"
    )


def evaluations_in(
    seconds: float, constants: dict, trial: Trial, counts: Sequence[int]
) -> tuple[int, int, float]:
    """How many, of how many batches of each split, and the seconds that they take: all of SEEN_MOST
    at most, if two of one batch do. counts: pictures to train on, and of val."""
    for number in EVALUATIONS:
        for batches in range(constants["eval_iterations"], 0, -1):
            pictures = sum(min(count, batches * constants["batch_size"]) for count in counts)
            taken = number * (trial.drawing + trial.look * pictures)
            if taken <= SEEN_MOST * seconds:
                return number, batches, taken
    return number, batches, taken


def set_steps(
    plan: Plan, constants: dict, trial: Trial, seconds: float, counts: Sequence[int], part: float
) -> None:
    """As many steps as are left when all else has its time; each sees a part of its pictures."""
    number, looked_at, evaluating = evaluations_in(seconds, constants, trial, counts)
    steps = int((seconds - trial.start - trial.end - evaluating) / trial.step)
    check_time(trial, steps)
    steps = min(steps, MOST_STEPS)
    batch, parts = constants["batch_size"], constants["accum_steps"]
    why = "small: many steps in the time, and enough pictures for batch norm"
    if parts > 1:
        why = f"memory has no room for {batch * parts} at once"
    plan.set("batch_size", batch, why)
    plan.set("accum_steps", parts, f"{batch * parts} pictures to a step")
    epochs = part * steps * batch * parts / counts[0]
    plan.set(
        "training_iterations", steps, f"a step takes {1000 * trial.step:.0f} ms here, measured"
    )
    set_strength(plan, epochs)
    plan.set("warmup_steps", max(20, min(100, steps // 10)), "a tenth of the steps, 100 at most")
    every = -(-steps // number)
    plan.set("eval_interval", every, f"{number} evaluations, for the curves and the best weights")
    share = max(SEEN_MOST, evaluating / seconds)
    plan.set("eval_iterations", looked_at, f"evaluations take at most {share:.0%} of the time")
    plan.set("save_model_interval", every, "a save with each evaluation")
    plan.set("patience", 0, "never ended early: the rate falls until the last step")


def written(value: object) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)


def recipe_text(plan: Plan, own: dict, title: str) -> str:
    """A recipe: each constant under its reason."""
    plain = re.sub(r"[^\w .,:;×/-]", "_", title)
    lines = [
        f'"""{plain}',
        "",
        "Each constant that was chosen has its reason above it. Change what you know better; all",
        "others are as they stand in train.py.",
        '"""',
        "",
    ]
    lines += [f"{name} = {written(value)}" for name, value in own.items()]
    for name, value in plan.constants.items():
        remark = textwrap.wrap(plan.reasons[name], 98, initial_indent="# ", subsequent_indent="# ")
        lines += ["", *remark, f"{name} = {written(value)}"]
    return "\n".join(lines) + "\n"


def recipe_path(name: str) -> Path:
    """recipes/NAME.py, or NAME-2.py and so on: what is there may have been edited."""
    plain = re.sub(r"[^\w-]+", "_", name).strip("_") or "data"
    return own_path(Path("recipes", f"{plain}.py"), lambda path: False)


def expectation(plan: Plan, trial: Trial, minutes: float, pictures: int, twice: str) -> str:
    """What the run will take, and what more time would bring."""
    chosen = plan.constants
    steps, batch = chosen["training_iterations"], chosen["batch_size"] * chosen["accum_steps"]
    seen = "windows of each picture" if any(chosen.get("crop_size", ())) else "epochs"
    lines: Sequence[str] = [
        f"image_size {chosen['image_size']}: {plan.reasons['image_size']}",
        f"to expect: {minutes:g} min, {steps * trial.step / 60:.1f} of them {steps:,} steps "
        f"({steps * batch / pictures:.0f} {seen}); up to {trial.memory / 2**30:.1f} GiB of memory",
        f"twice the minutes: {twice}",
    ]
    return "\n".join(lines)
