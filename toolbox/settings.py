"""A script's constants: read as data, set for one run by recipes and name=value, and checked.

Constants are a script's lower-case numbers, strings and tuples. train.py's are read without
importing it, as model.py and dataset.py need them, who come before it in reading order.
"""

import ast
import difflib
import os
import runpy
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np

from toolbox import processes
from toolbox.errors import InputError, ending_in_a_sentence

KINDS = (bool, int, float, str, tuple, list, type(None))  # the last two are wrong, and said so
TRAIN = Path(__file__).parent.parent / "train.py"

# What a stopped run may go on with otherwise: none of it changes what is learnt, but for rounding.
FREE_TO_CHANGE = {
    *("num_workers", "device", "precision", "data_dir", "cache", "compile_model"),
    *("save_model_interval", "run_dir", "resume"),
}


# ---- what there is ----


def settings_of(module: dict) -> dict:
    """The constants among a script's globals."""
    return {
        name: value
        for name, value in module.items()
        if name.islower() and name[0] != "_" and isinstance(value, KINDS)
    }


def read_constants(script: Path = TRAIN) -> dict:
    """A script's constants without running it: what its plain assignments of lower-case names
    say."""
    constants: dict = {}
    for statement in ast.parse(script.read_text(encoding="utf-8")).body:
        if not isinstance(statement, ast.Assign) or not isinstance(statement.targets[0], ast.Name):
            continue
        name = statement.targets[0].id
        if not name.islower():
            continue
        try:  # 20 * 367 // 4 is a number too; functions there are none
            value = eval(ast.unparse(statement.value), {"__builtins__": {}}, dict(constants))
        except Exception as error:
            raise InputError(
                f"{name} in {script.name} is {ast.unparse(statement.value)}; expected a plain "
                f"value such as a number, a text or a tuple ({type(error).__name__}: {error})"
            ) from error
        constants[name] = value
    return settings_of(constants)


def pick(constants: dict, names: str) -> list:
    """The values of the constants of these names."""
    return [constants[name] for name in names.split()]


def as_data(constants: dict) -> dict:
    """Constants as a checkpoint holds them: tuples are lists there."""
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in constants.items()
    }


# ---- what is set for one run ----


def parse(text, default):
    """text as a value of the default's type, or None; an int may stand for a float, one number
    for a pair."""
    if isinstance(text, str) and not isinstance(default, str):
        try:
            text = ast.literal_eval({"true": "True", "false": "False"}.get(text.lower(), text))
        except (ValueError, SyntaxError):
            return None
    if isinstance(default, tuple) and isinstance(text, list):
        text = tuple(text)
    if isinstance(default, tuple) and len(default) == 2 and type(text) in (int, float):
        text = (text, text)
    if isinstance(default, float) and type(text) is int:
        text = float(text)
    return text if type(text) is type(default) else None


def read_recipe(path: str, hardware: dict) -> dict:
    """The constants that a recipe, a file of them, gives when it is run; it may look at the
    device and the precision that the run will have."""
    try:
        given = runpy.run_path(path, hardware)
    except Exception as error:  # it is a user's program and may fail in any way
        raise InputError(
            f"{path} can't be run as a recipe ({type(error).__name__}: {error}); "
            "expected lines such as batch_size = 4"
        ) from error
    for name, value in hardware.items():
        if given[name] == value:
            del given[name]
    return {name: value for name, value in given.items() if not name.startswith("_")}


def override(module: dict, arguments: Sequence[str]) -> None:
    """Set a script's constants from recipes and name=value, in the order given."""
    known = settings_of(module)
    hardware = {name: known[name] for name in ("device", "precision") if name in known}
    for argument in arguments:
        name, _, text = argument.partition("=")
        if name in hardware:
            hardware[name] = text
    for argument in arguments:
        name, equals, text = argument.partition("=")
        if equals:
            given = {name: text}
        elif Path(argument).is_file():
            given = read_recipe(argument, hardware)
        else:
            raise InputError(f"{argument!r} is neither a recipe's file nor name=value")
        for name, text in given.items():
            if name not in known:
                nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)[0]
                raise InputError(f"there is no constant {name!r}; did you mean {nearest}?")
            value = parse(text, known[name])
            if value is None:
                kind = type(known[name]).__name__
                raise InputError(
                    f"{name} is {text!r}; expected {kind} as in {name} = {known[name]!r}"
                )
            module[name] = value


def run_script(module: dict, main: Callable[[], int | None]) -> None:
    """Run a script with the command line's settings, and end as scripts do."""
    with ending_in_a_sentence():
        override(module, sys.argv[1:])
        with open(os.devnull, "w") as nowhere:
            with redirect_stdout(sys.stdout if processes.is_first() else nowhere):
                status = main()
        processes.part_in_peace()
        sys.exit(status)


# ---- what may be set ----


def are_sides(value) -> bool:
    """Whole numbers above 0."""
    is_filled = isinstance(value, tuple) and len(value) > 0
    return is_filled and all(type(number) is int and number > 0 for number in value)


def are_shares(value) -> bool:
    """One share from 0 to below 1, or two."""
    return np.shape(value) in ((), (2,)) and all(0 <= share < 1 for share in np.ravel(value))


def one_of(*choices: str) -> tuple[Callable, str]:
    return choices.__contains__, " or ".join(choices)


MORE = (lambda x: x > 0), "more than 0"
NOT_LESS = (lambda x: x >= 0), "0 or more"
# What each constant has to fulfil, and how that is said.
RULES = {
    **dict.fromkeys(("batch_size", "accum_steps", "training_iterations", "eval_interval"), MORE),
    **dict.fromkeys(("save_model_interval", "base_lr", "plateau_patience"), MORE),
    **dict.fromkeys(("eval_iterations", "min_lr", "warmup_steps", "decay_factor"), NOT_LESS),
    **dict.fromkeys(("weight_decay", "grad_clip", "class_weights", "augment_strength"), NOT_LESS),
    **dict.fromkeys(("focal_gamma", "patience"), NOT_LESS),
    "uncertainty_passes": NOT_LESS,
    "num_workers": (lambda x: x >= -1, "0 or more, or -1 for as many as suit the device"),
    "seed": (lambda x: 0 <= x < 2**40, "0 to below 2 ** 40"),
    "training_scale": (lambda x: 0 < x <= 1, "more than 0, to 1"),
    "tversky_beta": (lambda x: 0 <= x <= 1, "0 to 1"),
    "ema_decay": (lambda x: 0 <= x < 1, "0 to below 1"),
    "image_size": (
        lambda x: are_sides(x) and len(x) == 2,
        "two whole numbers above 0 such as (80, 128)",
    ),
    "features": (are_sides, "whole numbers above 0 such as (16, 32, 64)"),
    "dropout": (
        are_shares,
        "one share from 0 to below 1, or two, for a block's first and second convolution",
    ),
    "optimizer": one_of("adamw", "muon"),
    "lr_schedule": one_of("sqrt", "cosine", "plateau"),
}


def check(constants: dict) -> None:
    """What no data set could make right, said before anything is read."""
    for name, (fits, expected) in RULES.items():
        try:
            is_right = name not in constants or fits(constants[name])
        except TypeError:  # of another kind
            is_right = False
        if not is_right:
            raise InputError(f"{name} is {constants[name]!r}; expected {expected}")
    if constants.get("tta") and constants.get("uncertainty_passes"):
        raise InputError(
            "tta is True and uncertainty_passes is above 0; choose one: what six looks disagree "
            "about is not what dropout doesn't know"
        )


# Those that say what net it is.
NET = ("architecture", "features", "dropout", "bias", "activation", "padded", "down", "up")
NET += ("deep_supervision", "patch")


def model_arguments(constants: dict, num_classes: int) -> dict:
    """What builds the net; it stands in the checkpoint."""
    chosen = as_data({name: constants[name] for name in NET})
    return {"num_classes": num_classes, "in_channels": 3, **chosen}


def training_size(constants: dict) -> tuple[int, ...]:
    """image_size by training_scale, less by whole multiples of what the net halves to one pixel.

    So the net pads what is trained on and what is judged alike.
    """
    multiple = constants["patch"] * 2 ** len(constants["features"])
    smaller = []
    for side in constants["image_size"]:
        steps = round(side * (1 - constants["training_scale"]) / multiple)
        smaller.append(side - multiple * min(steps, (side - 1) // multiple))
    return tuple(smaller)


def augmentation_of(constants: dict) -> list:
    """The size to train at, what may differ between copies, and how far it goes."""
    return [training_size(constants), *pick(constants, "augment augment_strength")]
