"""What each constant may be, said once: for file, recipe and command line alike."""

import math
import operator
from collections.abc import Callable
from numbers import Number
from typing import NamedTuple

from toolbox.errors import InputError

Take = Callable[[object], object]  # a value as it is held; ValueError or TypeError if it can't be


class Kind(NamedTuple):
    """take gives a value as the constant holds it, or fails; expected says what it would take."""

    expected: str
    take: Take
    is_text: bool = False  # of the command line's words nothing is read as Python

    def fits(self, value: object) -> bool:
        try:
            self.take(value)
        except (TypeError, ValueError, OverflowError):
            return False
        return True


def ensure(is_right: bool) -> None:
    if not is_right:
        raise ValueError


# ---- one value ----


def bounds(low: float, high: float, below: float, above: float) -> str:
    """The range in words."""
    if above > -math.inf:
        start = f"above {above:g}"
    else:
        start = f"{low:g} or more" if high == below == math.inf else f"from {low:g}"
    if below < math.inf:
        return f"{start} to below {below:g}"
    return f"{start} to {high:,g}" if high < math.inf else start


def whole(low: int, high: int, remark: str = "", but: int | None = None) -> Kind:
    def take(value: object) -> int:
        ensure(not isinstance(value, bool))
        count = operator.index(value)
        ensure(low <= count <= high and count != but)
        return count

    return Kind(f"a whole number from {low:,} to {high:,}{remark}", take)


def number(low=-math.inf, high=math.inf, below=math.inf, above=-math.inf) -> Kind:
    """A number from low, or above `above`, to high, or below `below`."""

    def take(value: object) -> float:
        ensure(isinstance(value, Number) and not isinstance(value, (bool, complex)))
        real = float(value)
        ensure(math.isfinite(real) and low <= real <= high and above < real < below)
        return real

    return Kind(f"a number {bounds(low, high, below, above)}", take)


def take_flag(value: object) -> bool:
    ensure(isinstance(value, bool))
    return value


def take_text(value: object) -> str:
    ensure(isinstance(value, str) and "\0" not in value)
    return value


def take_name(value: object) -> str:
    ensure(bool(take_text(value).strip()))
    return value


def one_of(*choices: str) -> Kind:
    def take(value: object) -> str:
        ensure(isinstance(value, str) and value in choices)
        return value

    return Kind(" or ".join(choices), take, is_text=True)


def take_run(value: object) -> str:
    """Where it is edited to be True or False, it is a text all the same."""
    if isinstance(value, bool):
        return "true" if value else ""
    return take_text(value)


# ---- several ----


def several(one: Kind, count: int, expected: str, repeats=False, alone=False) -> Kind:
    """A tuple of at most so many, or of just so many where one alone is repeated, or stays so."""

    def take(value: object) -> object:
        if alone and not isinstance(value, (tuple, list)):
            return one.take(value)
        if not isinstance(value, (tuple, list)):
            value = [value] * count if repeats else [value]
        least = count if repeats else 1
        ensure(least <= len(value) <= count)
        return tuple(one.take(part) for part in value)

    return Kind(expected, take)


def take_paths(value: object) -> str | tuple:
    if isinstance(value, (tuple, list)):
        ensure(len(value) > 0)
        return tuple(take_name(part) for part in value)
    return take_name(value)


FLAG = Kind("True or False", take_flag)
TEXT = Kind("a text", take_text, is_text=True)
NAME = Kind("a text that is not empty", take_name, is_text=True)
SIDE = whole(1, 2**16)
COUNT = whole(1, 10**9)
FROM_ZERO = whole(0, 10**9)
SHARE = number(0, below=1)
SCALE = number(above=0, high=1)

TRAINING = {
    "dataset": NAME,
    "data_dir": NAME,
    "image_size": several(
        SIDE, 2, "two whole numbers from 1 to 65,536 such as (80, 128)", repeats=True
    ),
    "features": several(SIDE, 10, "one to ten whole numbers from 1 to 65,536 such as (16, 32, 64)"),
    "batch_size": whole(1, 2**16),
    "accum_steps": whole(1, 10**6),
    "training_iterations": whole(1, 10**7),
    "base_lr": number(above=0),
    "loss": Kind("a text such as 'ce+dice'", take_text, is_text=True),
    "augment": Kind("a text such as 'zoom+flip', or '' for none", take_text, is_text=True),
    "dropout": several(
        SHARE,
        2,
        "one share from 0 to below 1, or two, for a block's first and second convolution",
        repeats=True,
    ),
    "seed": whole(0, 2**40 - 1),
    "cache": FLAG,
    "num_workers": whole(-1, 256, ", -1 being as many as suit the device"),
    "training_scale": several(SCALE, 6, f"{SCALE.expected}, or up to six, in turn", alone=True),
    "crop_size": several(
        whole(0, 2**16), 2, "two whole numbers from 0 to 65,536 such as (256, 256)", repeats=True
    ),
    "mix": number(0, 1),
    "augment_strength": number(0, 10),
    "architecture": TEXT,
    "bias": FLAG,
    "activation": TEXT,
    "patch": whole(1, 64),
    "padded": FLAG,
    "down": TEXT,
    "up": TEXT,
    "deep_supervision": FLAG,
    "class_weights": number(0, 2),
    "focal_gamma": number(0, 100),
    "tversky_beta": number(0, 1),
    "optimizer": one_of("adamw", "muon"),
    "lr_schedule": one_of("sqrt", "cosine", "plateau"),
    "min_lr": number(0),
    "warmup_steps": FROM_ZERO,
    "decay_factor": number(0),
    "plateau_patience": COUNT,
    "weight_decay": number(0),
    "grad_clip": number(0),
    "ema_decay": SHARE,
    "folds": whole(0, 100, " but 1, 0 being none", but=1),
    "eval_interval": COUNT,
    "eval_iterations": FROM_ZERO,
    "patience": FROM_ZERO,
    "save_model_interval": COUNT,
    "device": TEXT,
    "precision": TEXT,
    "compile_model": FLAG,
    "run_dir": TEXT,
    "resume": Kind("'', 'true', or a run's folder or its last.pth", take_run, is_text=True),
}
INFERENCE = {
    "checkpoint": NAME,
    "input_dir": Kind("a folder or a picture, or several", take_paths, is_text=True),
    "output_dir": NAME,
    "batch_size": whole(1, 2**16),
    "tile": FLAG,
    "tta": FLAG,
    "uncertainty_passes": whole(0, 10_000),
    "overlay": FLAG,
    "overwrite": FLAG,
    "recursive": FLAG,
    "device": TEXT,
    "precision": TEXT,
}
KINDS = {**INFERENCE, **TRAINING, "output": NAME, "minutes": number(above=0)}  # export.py, plan.py
OF_TYPE = {bool: FLAG, int: whole(-(2**62), 2**62), float: number(), str: TEXT}


def like(default: tuple) -> Kind:
    """Several values; one alone is a pair's both."""

    def take(value: object) -> tuple:
        if isinstance(value, (tuple, list)):
            return tuple(value)
        ensure(not isinstance(value, str))
        return (value, value) if len(default) == 2 else (value,)

    return Kind(f"several values as in {default!r}", take)


def kind_of(name: str, default: object) -> Kind:
    """What a constant may be; one that is in no table stays of its default's type."""
    if name not in KINDS and isinstance(default, tuple):
        return like(default)
    return KINDS.get(name) or OF_TYPE.get(type(default), TEXT)


def as_written(value: object) -> str:
    """A value as it is written, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def check_value(name: str, value: object, kind: Kind | None = None) -> object:
    """A value as its constant holds it."""
    kind = kind or KINDS[name]
    if kind.fits(value):
        return kind.take(value)
    hint = ""
    if isinstance(value, tuple) and value and kind.fits(value[0]):
        if not isinstance(kind.take(value[0]), tuple) and not kind.fits(value[:1]):
            hint = "; a comma makes it several values: take it out, or write a point"
    raise InputError(f"{name} is {as_written(value)}; expected {kind.expected}{hint}")
