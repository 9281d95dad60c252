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

EVALUATIONS = 6  # in a run
SEEN_MOST = 0.05  # share of the time that they may take
FEWEST = 100  # steps that are worth a run
MOST_STEPS = 10**7  # that train.py takes


class Trial(NamedTuple):
    """What was measured of a run, in seconds."""

    start: float  # until the first step, and what the first steps take longer
    step: float
    evaluation: float  # at eval_iterations, with its drawing and a save
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


def set_steps(plan: Plan, constants: dict, trial: Trial, seconds: float, pictures: int) -> None:
    """As many steps as are left when all else has its time."""
    batches = constants["eval_iterations"]
    share = min(1.0, SEEN_MOST * seconds / (EVALUATIONS * trial.evaluation))
    looked_at = max(1, int(batches * share))
    evaluating = EVALUATIONS * trial.evaluation * looked_at / batches
    steps = int((seconds - trial.start - trial.end - evaluating) / trial.step)
    check_time(trial, steps)
    steps = min(steps, MOST_STEPS)
    batch, parts = constants["batch_size"], constants["accum_steps"]
    why = "small: many steps in the time, and enough pictures for batch norm"
    if parts > 1:
        why = f"memory has no room for {batch * parts} at once"
    plan.set("batch_size", batch, why)
    plan.set("accum_steps", parts, f"{batch * parts} pictures to a step")
    epochs = steps * batch * parts / pictures
    plan.set(
        "training_iterations", steps, f"a step takes {1000 * trial.step:.0f} ms here, measured"
    )
    set_strength(plan, epochs)
    plan.set("warmup_steps", max(20, min(100, steps // 10)), "a tenth of the steps, 100 at most")
    every = -(-steps // EVALUATIONS)
    plan.set(
        "eval_interval", every, f"{EVALUATIONS} evaluations, for the curves and the best weights"
    )
    plan.set("eval_iterations", looked_at, f"evaluations take at most {SEEN_MOST:.0%} of the time")
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
    lines: Sequence[str] = [
        f"image_size {chosen['image_size']}: {plan.reasons['image_size']}",
        f"to expect: {minutes:g} minutes, {steps * trial.step / 60:.1f} of them {steps:,} steps "
        f"({steps * batch / pictures:.0f} epochs); up to {trial.memory / 2**30:.1f} GiB of memory",
        f"twice the minutes: {twice}",
    ]
    return "\n".join(lines)
