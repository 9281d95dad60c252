"""What a checkpoint may say of itself: checked before anything is built from it."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from toolbox.errors import InputError
from toolbox.kinds import KINDS, as_written, whole
from toolbox.settings import NET

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

ENTRIES = {"format", "model", "weights", "classes", "image_size"}
ENTRIES |= {"scale", "step", "metrics", "constants", "resume"}  # the first runs lacked some
CLASSES = whole(2, 255)
FILLING = ("normal_", "uniform_", "fill_", "zero_")


def told(value: object) -> str:
    """A value as a sentence can hold it."""
    if isinstance(value, Tensor):
        return f"a tensor {tuple(value.shape)} of {value.dtype}"
    return " ".join(as_written(value).split())


def expected(name: str, value: object, words: str) -> str:
    return f"its {name} is {told(value)}; expected {words}"


# ---- plain values ----


def is_whole(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high


def is_number(value: object) -> bool:
    return type(value) in (int, float)


def is_finite(value: object, above: float = -1e300, most: float = 1e300) -> bool:
    return is_number(value) and above < value <= most


def is_plain(value: object) -> bool:
    """A value that a constant may have had, now or once."""
    if isinstance(value, (list, tuple)):
        return all(is_plain(part) for part in value)
    return value is None or isinstance(value, (bool, int, float, str))


def is_text(value: object) -> bool:
    """Words that can be written into a file and drawn."""
    if type(value) is not str or not value.strip() or "\0" in value:
        return False
    return value == value.encode("utf-8", "ignore").decode()  # half a sign has no bytes


# ---- the description ----


def problems_of_model(model: object) -> Iterator[str]:
    """What its arguments are that would build no net of ours."""
    if not isinstance(model, dict):
        yield expected("model", model, "the arguments that build the net")
        return
    for name in ("architecture", "num_classes"):
        if name not in model:
            yield f"its model lacks {name}"
    for name, value in model.items():
        if name == "num_classes":
            kind = CLASSES
        elif name == "in_channels":
            kind = whole(3, 3)
        elif name in NET:
            kind = KINDS[name]
        else:
            yield f"its model has {told(name)}, which is unknown here"
            return
        is_listed = name != "features" or isinstance(value, (list, tuple))
        if not is_plain(value) or not is_listed or not kind.fits(value):
            yield expected(f"model's {name}", value, kind.expected)


def is_class(value: object) -> bool:
    if not isinstance(value, dict) or not is_text(value.get("name")):
        return False
    color = value.get("color")
    is_color = isinstance(color, (list, tuple)) and len(color) == 3
    return is_color and all(is_whole(part, 0, 255) for part in color)


def problems_of_classes(classes: object, count: int) -> Iterator[str]:
    if not isinstance(classes, (list, tuple)) or len(classes) != count:
        yield expected("list of classes", classes, f"{count} of them, as its model has")
        return
    for i, value in enumerate(classes):
        if not is_class(value):
            yield expected(
                f"class {i}", value, "a name and a color of three whole numbers from 0 to 255"
            )


def problems_of_numbers(saved: dict) -> Iterator[str]:
    size = saved["image_size"]
    is_listed = isinstance(size, (list, tuple)) and is_plain(size)
    if not is_listed or not KINDS["image_size"].fits(size):
        yield expected("image_size", size, KINDS["image_size"].expected)
    if "scale" in saved and not is_finite(saved["scale"], 0, 2**16):
        yield expected("scale", saved["scale"], "a number above 0, to 65,536")
    if "step" in saved and not is_whole(saved["step"], 0, 10**9):
        yield expected("step", saved["step"], "a whole number, 0 or more")


def problems_of_dicts(saved: dict) -> Iterator[str]:
    for name, fits, words in (
        ("metrics", is_number, "scores by name"),
        ("constants", is_plain, "train.py's constants by name"),
    ):
        values = saved.get(name, {})
        if not isinstance(values, dict):
            yield expected(name, values, words)
            return
        for key, value in values.items():
            if type(key) is not str or not fits(value):
                yield expected(f"{name}' {told(key)}", value, words)
    for name in ("weights", "resume"):
        if not isinstance(saved.get(name, {}), dict):
            yield expected(name, saved[name], "a dict")


def problems_of(saved: dict) -> Iterator[str]:
    for name in saved:
        if name not in ENTRIES:
            yield f"it has an entry {told(name)}, which is unknown here"
    yield from problems_of_model(saved["model"])
    yield from problems_of_classes(saved["classes"], saved["model"]["num_classes"])
    yield from problems_of_numbers(saved)
    yield from problems_of_dicts(saved)


def refuse(path: Path, problems: Iterator[str]) -> None:
    """Raise the first of the problems, if there is any."""
    for problem in problems:
        raise InputError(
            f"{path} is not as train.py wrote it: {problem}. Take a copy of it that nobody changed"
        )


def check_description(path: Path, saved: dict) -> None:
    """A checkpoint that has all that is needed, and of the right format."""
    refuse(path, problems_of(saved))


def problems_of_constants(constants: dict, names: Sequence[str]) -> Iterator[str]:
    for name in names:
        if name not in constants:
            yield f"its constants lack {name}, which is needed here"
        elif not KINDS[name].fits(constants[name]):
            yield expected(f"constants' {name}", constants[name], KINDS[name].expected)


def check_constants(path: Path, saved: dict, names: Sequence[str]) -> None:
    """That a checkpoint tells these of the constants that it was trained with."""
    refuse(path, problems_of_constants(saved.get("constants", {}), names))


def check_scale(path: str, saved: dict, tile: bool) -> None:
    """Tiles are cut at the scale that was trained, which the first checkpoints don't tell."""
    if tile and "scale" not in saved:
        raise InputError(
            f"tile is True, but {path} doesn't say at what scale it was trained, as the first "
            "checkpoints don't; set tile=false, or train again"
        )


# ---- the weights ----


class Unfilled(TorchFunctionMode):
    """Nets are built without their first weights, which on no device would take a second."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function.__name__ in FILLING:
            return args[0] if args else kwargs["tensor"]
        return function(*args, **(kwargs or {}))


def state_of(path: Path, model: dict, build: Callable[..., nn.Module]) -> dict[str, Tensor]:
    """The names, shapes and kinds of the weights that a net has, found without their memory."""
    try:
        with torch.device("meta"), Unfilled():
            return build(**model).state_dict()
    except (InputError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise unfit(path, str(error).splitlines()[0]) from error


def unfit(path: Path, found: str) -> InputError:
    return InputError(
        f"{path} does not fit the net that it describes: {found}; expected one that train.py wrote"
    )


def problems_of_weights(weights: dict, state: dict[str, Tensor]) -> Iterator[str]:
    for name in state:
        if name not in weights:
            yield f"it lacks the weights {name}"
    for name, tensor in weights.items():
        if name not in state:
            yield f"it has weights {told(name)}, which the net has not"
        elif not isinstance(tensor, Tensor):
            yield f"{name} is {told(tensor)}, and no tensor"
        elif tensor.shape != state[name].shape or tensor.dtype != state[name].dtype:
            yield f"{name} is {told(tensor)}, and the net's is {told(state[name])}"
        elif not tensor.isfinite().all():
            yield f"{name} has numbers that are not finite"
        elif name.endswith(("running_var", "num_batches_tracked")) and (tensor < 0).any():
            yield f"{name} has numbers below 0"
        elif name == "std" and (tensor <= 0).any():
            yield f"{name} has numbers that are not above 0"


def check_weights(path: Path, weights: dict, state: dict[str, Tensor]) -> None:
    """They must be those of a net with this state, each by name, shape and kind."""
    for problem in problems_of_weights(weights, state):
        raise unfit(path, problem)
