"""A script's constants: its lower-case numbers, texts and tuples, read from its globals, or from
its file without importing it, as model.py and dataset.py come before train.py in reading order."""

import ast
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from types import ModuleType

from toolbox.errors import InputError
from toolbox.kinds import KINDS, OF_TYPE

TRAIN = Path(__file__).parent.parent / "train.py"


def settings_of(module: dict) -> dict:
    """The constants among a script's globals."""
    constants = {}
    for name, value in module.items():
        is_own = name in KINDS and not isinstance(value, ModuleType) and not callable(value)
        if name.islower() and name[0] != "_" and (is_own or type(value) in (*OF_TYPE, tuple)):
            constants[name] = value
    return constants


def targets_of(statement: ast.stmt) -> list[ast.expr]:
    """What a statement gives a value."""
    if isinstance(statement, ast.Assign):
        return statement.targets
    if isinstance(statement, ast.AnnAssign) and statement.value:
        return [statement.target]
    return []


def are_constants(targets: Sequence[ast.expr]) -> bool:
    """Whether it is lower-case names and nothing else."""
    nodes = list(chain.from_iterable(map(ast.walk, targets)))
    plain = (ast.Name, ast.Tuple, ast.List, ast.Store)
    names = [node.id for node in nodes if isinstance(node, ast.Name)]
    return (
        bool(names)
        and all(isinstance(node, plain) for node in nodes)
        and all(name.islower() for name in names)
    )


def read_constants(script: Path = TRAIN) -> dict:
    """A script's constants without running it: what its plain assignments of lower-case names
    say."""
    constants: dict = {}
    try:
        statements = ast.parse(script.read_bytes()).body
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{script} can't be read as Python ({error}); mend that line") from error
    for statement in statements:
        targets = targets_of(statement)
        if not are_constants(targets):
            continue
        left, right = " = ".join(map(ast.unparse, targets)), ast.unparse(statement.value)
        try:  # 20 * 367 // 4 is a number too; functions there are none
            exec(f"{left} = {right}", {"__builtins__": {}}, constants)
        except Exception as error:
            raise InputError(
                f"{left} in {script.name} is {right}; expected a plain value such as a number, a "
                f"text or a tuple ({type(error).__name__}: {error})"
            ) from error
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
