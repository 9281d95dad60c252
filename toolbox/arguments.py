"""What a command line sets for one run: constants by name=value, by recipes, by paths alone."""

import ast
import difflib
import os
from collections.abc import Collection, Sequence
from contextlib import suppress
from pathlib import Path

from toolbox.archives import is_archive
from toolbox.constants import settings_of
from toolbox.errors import InputError
from toolbox.files import last_files, nearby_hint
from toolbox.kinds import Kind, check_value, kind_of
from toolbox.recipes import read_recipe


def read_words(text: str, kind: Kind) -> object:
    """What the command line's words mean: texts as they are, others as Python has them."""
    if kind.is_text:
        return text
    with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
        return ast.literal_eval({"true": "True", "false": "False"}.get(text.lower(), text))
    return text


def set_constant(module: dict, name: str, value: object, is_words: bool) -> None:
    """Set one of a script's constants to what is given for it, if it may be that."""
    known = settings_of(module)
    if name not in known:
        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
        hint = f"; did you mean {nearest[0]}?" if nearest else ""
        raise InputError(f"there is no constant {name!r}{hint}")
    kind = kind_of(name, known[name])
    if is_words:
        meant = read_words(value, kind)
        value = meant if kind.fits(meant) else value
    module[name] = check_value(name, value, kind)


def set_path(module: dict, path: str, inputs: list[str]) -> None:
    """A path alone is what it looks like: weights, pictures to colour, or a data set."""
    is_run = Path(path).name == "last.pth" or bool(last_files(Path(path)))
    if "checkpoint" in module and (path.endswith(".pth") or is_run):
        module["checkpoint"] = path
    elif "input_dir" in module:
        inputs.append(path)
        module["input_dir"] = tuple(inputs) if len(inputs) > 1 else path
    elif is_run:
        raise InputError(f"{path} is a run; to go on with it: resume={path}")
    elif "dataset" in module and (Path(path).is_dir() or is_archive(Path(path))):
        module["dataset"] = path
    else:
        raise InputError(f"{path} is no recipe; expected a .py file of constants, or name=value")


def check_takes_recipes(path: str, known: Collection[str]) -> None:
    """Scripts that use a checkpoint find all that a recipe says in it."""
    if "checkpoint" in known and "dataset" not in known:
        raise InputError(
            f"{path} is a recipe, for train.py; what it said stands in the checkpoint, which is "
            "all that is needed: leave it out, or name another with checkpoint=FILE"
        )


def not_understood(argument: str, known: Collection[str]) -> InputError:
    """What to say of an argument that is nothing."""
    stem = Path(argument).stem
    name = argument.lstrip("-").partition("=")[0].strip().replace("-", "_")
    hint = ""
    if "input_dir" in known and name not in known:
        return InputError(
            f"there is no file or folder {argument!r}; expected pictures, a folder of them, or "
            f"name=value{nearby_hint(argument)}"
        )
    if Path("recipes", f"{stem}.py").is_file():
        hint = f"; did you mean recipes/{stem}.py?"
    elif name in known:
        hint = f"; write {name}=VALUE, without blanks"
    elif "dataset" in known and name.isidentifier():
        hint = f"; for a data set, write dataset={argument}"
    else:
        hint = nearby_hint(argument)
    return InputError(f"{argument!r} is neither a recipe's file nor name=value{hint}")


def override(module: dict, arguments: Sequence[str]) -> None:
    """Set a script's constants from recipes, paths and name=value, in the order given."""
    known = settings_of(module)
    hardware = {name: known[name] for name in ("device", "precision") if name in known}
    given = [argument.lstrip("-").partition("=") for argument in arguments]
    hardware.update((name, text) for name, _, text in given if name in hardware)
    inputs: list[str] = []
    for argument, (name, equals, text) in zip(arguments, given):
        is_there = os.path.exists(argument)
        if equals and name.isidentifier() and not is_there:
            set_constant(module, name, text, is_words=True)
        elif is_there and argument.endswith(".py") and os.path.isfile(argument):
            check_takes_recipes(argument, known)
            for name, value in read_recipe(argument, hardware).items():
                set_constant(module, name, value, is_words=False)
        elif is_there:
            set_path(module, argument, inputs)
        else:
            raise not_understood(argument, known)
