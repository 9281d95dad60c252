"""A script and its settings: how it is started and ends, what is checked before anything is read,
and what follows from the constants."""

import difflib
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

from toolbox import processes
from toolbox.arguments import override
from toolbox.constants import TRAIN, as_data, pick, read_constants, settings_of
from toolbox.errors import InputError, ending_in_a_sentence
from toolbox.helping import ASKED, help_text
from toolbox.kinds import INFERENCE, KINDS, TRAINING, check_value

# What a stopped run may go on with otherwise: none of it changes what is learnt, but for rounding.
FREE_TO_CHANGE = {
    *("num_workers", "device", "precision", "data_dir", "cache", "compile_model"),
    *("save_model_interval", "run_dir", "resume"),
}


def check_there(script: str, module: dict) -> None:
    """No constant that the script needs was taken out of its file or renamed."""
    wanted = {"train.py": TRAINING, "inference.py": INFERENCE}.get(script, {})
    lacking = [name for name in wanted if name not in settings_of(module)]
    if lacking:
        name = lacking[0]
        others = [other for other in settings_of(module) if other not in wanted]
        nearest = difflib.get_close_matches(name, others, n=1)
        found = f" but {nearest[0]}" if nearest else ""
        raise InputError(
            f"{script} has no constant {name}{found}; put back its line, {name} = …, "
            f"{wanted[name].expected}"
        )


def settle(script: str, module: dict) -> None:
    """Every constant as it is held, whether it was set in the file or for this run."""
    check_there(script, module)
    for name, value in settings_of(module).items():
        if name in KINDS:
            module[name] = check_value(name, value)


# ---- a script ----


def run_script(module: dict, main: Callable[[], int | None]) -> None:
    """Run a script, or one with train.py's constants read as data, with the command line's
    settings, and end as scripts do."""
    owner = Path(module.get("__file__", TRAIN))
    with ending_in_a_sentence():
        if {*sys.argv[1:]} & {*ASKED}:
            script = getattr(sys.modules["__main__"], "__file__", owner)
            print(help_text(Path(script), owner))
            return
        override(module, sys.argv[1:])
        settle(owner.name, module)
        with open(os.devnull, "w") as nowhere:
            heard = sys.stdout if processes.is_first() else nowhere
            with redirect_stdout(heard):
                status = main()
        processes.part_in_peace()
        sys.exit(status)


def run_with_constants(main: Callable[[dict], int | None]) -> None:
    """Run a script that takes train.py's constants."""
    with ending_in_a_sentence():
        constants = read_constants()
    run_script(constants, lambda: main(constants))


def check(constants: dict) -> None:
    """What no data set could make right, said before anything is read."""
    for name, value in constants.items():
        if name in KINDS:
            check_value(name, value)
    window, size = constants.get("crop_size", (0, 0)), constants.get("image_size", (0, 0))
    if any(window) and not (0 < window[0] <= size[0] and 0 < window[1] <= size[1]):
        raise InputError(
            f"crop_size is {window}, not a window of image_size {size}; expected (height, width) "
            "within it, or (0, 0) for all of it"
        )
    if constants.get("tta") and constants.get("uncertainty_passes"):
        raise InputError(
            "tta is True and uncertainty_passes is above 0; choose one: what six looks disagree "
            "about is not what dropout doesn't know"
        )
    if {"batch_size", "features"} <= constants.keys():  # train.py's
        check_deepest(constants)


def check_deepest(constants: dict) -> None:
    """Batch norm needs two values of each channel, also where the net is down to one pixel."""
    if constants["batch_size"] > 1 or not constants["padded"]:
        return
    multiple = constants["patch"] * 2 ** len(constants["features"])
    for size in training_sizes(constants):
        if max(size) <= multiple:
            raise InputError(
                f"batch_size is 1, and a picture of {size} in training is one pixel on the net's "
                "deepest level, too little for batch norm; set batch_size=2, fewer features, or a "
                "larger image_size"
            )


# ---- what follows from them ----


# Those that say what net it is.
NET = ("architecture", "features", "dropout", "bias", "activation", "padded", "down", "up")
NET += ("deep_supervision", "patch")


def model_arguments(constants: dict, num_classes: int) -> dict:
    """What builds the net; it stands in the checkpoint."""
    chosen = as_data({name: constants[name] for name in NET})
    return {"num_classes": num_classes, "in_channels": 3, **chosen}


def training_scales(constants: dict) -> tuple[float, ...]:
    """One, or several that have equal parts of a run."""
    scales = constants["training_scale"]
    return tuple(scales) if isinstance(scales, (tuple, list)) else (scales,)


def training_sizes(constants: dict) -> list[tuple[int, ...]]:
    """image_size, or a window of it, by each training_scale, in whole multiples of what the net
    halves to one pixel.

    So nothing is padded in training. What is padded there is cut off before the loss, and what the
    net makes of a picture's last rows would stay as it was at the start: wherever a picture needs
    less padding, in a tile or a smaller look, those rows would come out at random.
    """
    multiple = constants["patch"] * 2 ** len(constants["features"]) if constants["padded"] else 1
    whole = constants["crop_size"] if any(constants["crop_size"]) else constants["image_size"]
    sizes = []
    for scale in training_scales(constants):
        smaller = []
        for side in whole:
            most = side // multiple
            count = min(max(1, round(side * scale / multiple)), most)
            smaller.append(multiple * count or side)
        sizes.append(tuple(smaller))
    return sizes


def training_size(constants: dict) -> tuple[int, ...]:
    """The last, which a run ends with."""
    return training_sizes(constants)[-1]


def augmentations_of(constants: dict) -> list[list]:
    """For each size to train at: the size, what may differ between copies, and how far it goes."""
    how = pick(constants, "augment augment_strength crop_size")
    return [[size, *how] for size in training_sizes(constants)]
