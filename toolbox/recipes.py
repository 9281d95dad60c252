"""Recipes: files of constants that are run to be read."""

import ast
import runpy
from pathlib import Path
from types import ModuleType

from toolbox.errors import InputError
from toolbox.kinds import KINDS


def check_lines(path: str) -> None:
    """Words alone, imports and `batch_size: 4` are valid Python that sets nothing."""
    statements = ast.parse(Path(path).read_bytes()).body
    if all(isinstance(one, (ast.Expr, ast.Import, ast.ImportFrom)) for one in statements):
        raise InputError(f"{path} sets no constant; expected lines such as batch_size = 4")
    for statement in statements:
        if isinstance(statement, ast.AnnAssign) and statement.value is None:
            name, value = ast.unparse(statement.target), ast.unparse(statement.annotation)
            raise InputError(
                f"line {statement.lineno} of {path} sets nothing; write {name} = {value}"
            )


def is_constant(name: str, value: object) -> bool:
    """What it imported or defined to reckon with is none."""
    if name in KINDS:
        return True
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
    return {name: value for name, value in given.items() if is_constant(name, value)}
