"""What -h shows: a script's docstring, and its constants as they stand in its file."""

import ast
import io
import tokenize
from pathlib import Path

ASKED = ("-h", "--help", "-help", "/?", "help")


def is_constant(statement: ast.stmt) -> bool:
    """Whether a statement gives a constant its value."""
    targets = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign):
        targets = [statement.target]
    return any(isinstance(target, ast.Name) and target.id.islower() for target in targets)


def constants_of(script: Path) -> str:
    """The lines of a script's constants, with their remarks and the headings between them."""
    text = script.read_text(encoding="utf-8")
    lines = text.splitlines()
    wanted: set[int] = set()
    for statement in ast.parse(text).body:
        if is_constant(statement):
            wanted.update(range(statement.lineno - 1, statement.end_lineno))
    chosen = []
    for i in range(min(wanted, default=0), max(wanted, default=-1) + 1):
        if i in wanted or lines[i].startswith("#") or not lines[i]:
            chosen.append(lines[i])
    return "\n".join(chosen)


def remarks_of(script: Path) -> dict[str, str]:
    """What stands behind each constant on its line."""
    text = script.read_text(encoding="utf-8")
    behind = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            behind[token.start[0]] = token.string.lstrip("# ")
    remarks = {}
    for statement in ast.parse(text).body:
        if is_constant(statement):
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    remarks[node.id] = behind.get(statement.end_lineno, "")
    return remarks


def help_text(script: Path, constants: Path) -> str:
    """What a script does, and which constants may be set for one run of it."""
    said = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or ""
    lines = constants_of(constants)
    if not lines:
        return said
    return f"{said}\n\nThe constants of {constants.name}, each to be set by name=value:\n\n{lines}"
