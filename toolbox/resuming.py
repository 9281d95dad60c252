"""What last.pth holds besides a checkpoint, for its run to go on from: checked before any of it is
taken up."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from toolbox.checkpoints import cure, look_into, read_checkpoint
from toolbox.descriptions import (
    check_weights,
    expected,
    is_finite,
    is_number,
    is_whole,
    refuse,
    told,
)
from toolbox.errors import InputError, is_out_of_memory
from toolbox.muon import state_names

import torch
from torch import Tensor, nn

SCORES = ("loss", "pixel_accuracy", "mean_iou")  # of an evaluation, on either split
COLUMNS = {"step", "images_seen", "seconds", "learning_rate"}
COLUMNS |= {f"train_{score}" for score in SCORES} | {f"val_{score}" for score in SCORES}
NEEDED = {"optimizer", "scaler", "skipped", "weights", "history", "rates", "data"}
# What the first runs did not keep.
LATER = {"seen", "processes", "launch", "seconds", "training_seconds", "waiting_seconds"}
SCALER = {"scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker"}


# ---- by themselves ----


def problems_of_history(history: object, step: int) -> Iterator[str]:
    words = "a list of evaluations"
    if not isinstance(history, list):
        yield expected("history", history, words)
        return
    before = 0
    for number, row in enumerate(history, start=1):
        if not isinstance(row, dict) or row.keys() != COLUMNS:
            yield expected(f"evaluation {number}", row, f"a row of {', '.join(sorted(COLUMNS))}")
            return
        for name, value in row.items():
            if not is_number(value):
                yield expected(f"evaluation {number}'s {name}", value, "a number")
        if not is_whole(row["step"], before + 1, step):
            yield expected(f"evaluation {number}'s step", row["step"], f"{before + 1} to {step}")
            return
        before = row["step"]


def problems_of_rates(rates: object, step: int) -> Iterator[str]:
    if not isinstance(rates, list) or len(rates) != step:
        yield expected("rates", rates, f"a list of {step}, one for each step")
    elif not all(is_finite(rate) and rate >= 0 for rate in rates):
        yield expected("rates", rates, "numbers, 0 or more")


def problems_of_seen(seen: object, step: int, size: Sequence[int], count: int) -> Iterator[str]:
    """Predictions along the way: each a tensor of class ids."""
    if not isinstance(seen, dict):
        yield expected("seen", seen, "predictions by step")
        return
    for at, preds in seen.items():
        is_preds = isinstance(preds, Tensor) and preds.dtype == torch.uint8 and preds.ndim == 3
        if not is_whole(at, 1, step) or not is_preds or list(preds.shape[1:]) != list(size):
            yield expected(f"prediction of step {told(at)}", preds, f"class ids of size {size}")
        elif (preds >= count).any():
            yield f"its prediction of step {at} has other classes than the {count} of its model"


def problems_of_counts(state: dict) -> Iterator[str]:
    for name in ("optimizer", "scaler", "weights"):
        if not isinstance(state[name], dict):
            yield expected(name, state[name], "a dict")
    for name in ("data", "launch"):
        if type(state.get(name, "")) is not str:
            yield expected(name, state[name], "a text")
    for name, least in (("skipped", 0), ("processes", 1)):
        if not is_whole(state.get(name, 1), least, 10**9):
            yield expected(name, state[name], f"a whole number, {least} or more")
    for name in ("seconds", "training_seconds", "waiting_seconds"):
        if not is_finite(state.get(name, 0.0)) or state.get(name, 0.0) < 0:
            yield expected(name, state[name], "a number, 0 or more")


def problems_of_state(saved: dict) -> Iterator[str]:
    state, step = saved["resume"], saved.get("step")
    for name in sorted(NEEDED - state.keys()):
        yield f"it lacks {name}, which going on needs"
    for name in state:
        if name not in NEEDED | LATER:
            yield f"it has {told(name)} to go on from, which is unknown here"
    if step is None or "constants" not in saved:
        yield "it doesn't tell its step or its constants"
        return
    yield from problems_of_counts(state)
    yield from problems_of_history(state["history"], step)
    yield from problems_of_rates(state["rates"], step)
    count = saved["model"]["num_classes"]
    yield from problems_of_seen(state.get("seen", {}), step, saved["image_size"], count)


def check_run(path: Path, saved: dict) -> dict:
    """A last.pth whose run could go on, as far as it can be told without the net."""
    if "resume" not in saved:
        raise InputError(
            f"{path} lacks what going on needs, as a best.pth does; put the run's own last.pth "
            "back, or start a new run"
        )
    refuse(path, problems_of_state(saved))
    return saved


def look_at_run(path: Path) -> dict:
    return check_run(path, look_into(path)[0])


def read_run(path: Path) -> dict:
    return check_run(path, read_checkpoint(path))


# ---- beside the net ----


def problems_of_groups(saved: dict, optimizer: torch.optim.Optimizer) -> Iterator[str]:
    """The optimizer's own numbers: all but the rate are those that the run's constants give."""
    groups, own = saved.get("param_groups"), optimizer.state_dict()["param_groups"]
    if not isinstance(groups, list) or len(groups) != len(own):
        yield expected("optimizer's groups", groups, f"a list of {len(own)}")
        return
    for group, now in zip(groups, own):
        if not isinstance(group, dict) or "params" not in group:
            yield expected("optimizer's group", group, "a dict with params")
            return
        for name, value in group.items():
            if name == "lr" and not is_finite(value):
                yield expected("optimizer's lr", value, "a number")
            elif name != "lr" and name in now and told(value) != told(now[name]):
                yield expected(f"optimizer's {name}", value, told(now[name]))


def is_like(value: object, parameter: Tensor, name: str) -> bool:
    """Whether it can be what the optimizer keeps of a parameter under that name."""
    if not isinstance(value, Tensor) or value.dtype != torch.float32:
        return False
    shape = () if name == "step" else parameter.shape
    is_sound = value.shape == shape and bool(value.isfinite().all())
    return is_sound and (name not in ("step", "exp_avg_sq") or bool((value >= 0).all()))


def problems_of_averages(state: object, optimizer: torch.optim.Optimizer) -> Iterator[str]:
    """What the optimizer keeps of each parameter; nothing of any before its first step."""
    parameters = list(chain.from_iterable(group["params"] for group in optimizer.param_groups))
    if not isinstance(state, dict) or state and state.keys() != set(range(len(parameters))):
        yield f"its optimizer's state is not that of {len(parameters)} parameters"
        return
    for number, entry in state.items():
        parameter = parameters[number]
        names = state_names(optimizer, parameter)
        if not isinstance(entry, dict) or entry.keys() != names:
            yield expected(f"optimizer's state of {number}", entry, " and ".join(sorted(names)))
            return
        for name in names:
            if not is_like(entry[name], parameter, name):
                yield f"its optimizer's {name} of {number} is not like its {told(parameter)}"


def problems_of_scaler(scaler: dict) -> Iterator[str]:
    """fp16's scaler; of other precisions nothing is kept."""
    if scaler and scaler.keys() != SCALER:
        yield expected("scaler", scaler, f"nothing, or {', '.join(sorted(SCALER))}")
        return
    for name, value in scaler.items():
        least = 0 if name == "_growth_tracker" else 1e-30
        if not is_finite(value, most=1e30) or value < least:
            yield expected(f"scaler's {name}", value, "a number above 0")


def check_beside(
    path: Path, saved: dict, kept: nn.Module, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """All that going on needs must fit the run's net and optimizer."""
    state = saved["resume"]
    check_weights(path, saved["weights"], kept.state_dict())
    if state["weights"] or kept is not model:  # averaged ones are judged, raw ones learn
        check_weights(path, state["weights"], model.state_dict())
    refuse(path, problems_of_groups(state["optimizer"], optimizer))
    refuse(path, problems_of_averages(state["optimizer"].get("state"), optimizer))
    refuse(path, problems_of_scaler(state["scaler"]))


@contextmanager
def taken_up(path: Path) -> Iterator[None]:
    """What torch finds amiss in a state ends in a sentence too."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        found = (str(error).splitlines() or [""])[0]
        raise InputError(
            f"{path} can't be taken up ({type(error).__name__}: {found}); {cure(path)}"
        ) from error
