"""Recipes: files of constants that are run to be read."""

import ast
import runpy
from pathlib import Path
from types import ModuleType

from toolbox.errors import InputError


def check_lines(path: str) -> None:
    """`batch_size: 4` is valid Python that sets nothing."""
    for statement in ast.parse(Path(path).read_bytes()).body:
        if isinstance(statement, ast.AnnAssign) and statement.value is None:
            name, value = ast.unparse(statement.target), ast.unparse(statement.annotation)
            raise InputError(
                f"line {statement.lineno} of {path} sets nothing; write {name} = {value}"
            )


def is_constant(name: str, value: object) -> bool:
    """What it imported or defined to reckon with is none."""
    return name[0] != "_" and not isinstance(value, ModuleType) and not callable(value)


def read_recipe(path: str, hardware: dict) -> dict:
    """The constants that a recipe gives when it is run; it may look at the device and the precision
    that the run will have."""
    try:
        check_lines(path)
        given = runpy.run_path(path, hardware)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a user's program may fail in any way
        raise InputError(
            f"{path} can't be run as a recipe ({type(error).__name__}: {error}); "
            "expected lines such as batch_size = 4"
        ) from error
    for name, value in hardware.items():
        if given.get(name) == value:
            del given[name]
    constants = {name: value for name, value in given.items() if is_constant(name, value)}
    if not constants:
        raise InputError(f"{path} sets no constant; expected lines such as batch_size = 4")
    return constants
