"""What is wrong with a data set's files: each in a sentence, many of one cause in one."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from toolbox.errors import InputError
from toolbox.files import own_path, write_text

LONGEST = 40  # lines of one problem, a table to copy, on the screen
SHOWN = 3  # of one cause, each with its own sentence; of more, as many examples
FIRST_LINE = "What has to be put right in a data set, listed by dataset.py or train.py."
OUTPUT = "TrainingOutput"


class Cause(NamedTuple):
    """What several things have in common: said after their number, and what to do about them."""

    what: str
    cure: str


OTHER = Cause("other things", "")


class FileInputError(InputError):
    """Something wrong with one file of many.

    about names it where many of one cause are told as one; alike says what they may have in common
    besides. Made of a sentence alone, as by a worker's error on its way to the main process, it is
    a plain one. Its name ends as InputError's does: there a worker's traceback is cut off.
    """

    def __init__(self, sentence: str, cause: Cause = OTHER, about: object = "", alike: str = ""):
        super().__init__(sentence)
        self.cause, self.about, self.alike = cause, str(about), alike


def as_finding(problem: InputError | str) -> FileInputError:
    """A source of one's own may put plain sentences among the problems."""
    if isinstance(problem, FileInputError) and problem.about:
        return problem
    return FileInputError(str(problem), OTHER, problem)


@contextmanager
def noted(problems: list) -> Iterator[None]:
    """Go on after a problem, so that all of them are named at once."""
    try:
        yield
    except InputError as problem:
        problems.append(problem)


def one_entry(cause: Cause, found: Sequence[FileInputError], root: Path) -> str:
    """Many things of one cause: their number, what they have in common, examples, the cure."""
    alike = {finding.alike for finding in found}
    common = f", all {alike.pop()}" if len(alike) == 1 and "" not in alike else ""
    examples = ", ".join(finding.about for finding in found[:SHOWN])
    examples = examples.replace(f"{root}{os.sep}", "")  # where that is, was said above
    cure = f"; {cause.cure}" if cause.cure else ""
    return f"{len(found)} {cause.what}{common}: {examples} and {len(found) - SHOWN} more{cure}"


def entries(findings: Sequence[FileInputError], root: Path) -> list[str]:
    """A sentence for each finding, but one for all of a cause that many have."""
    by_cause: dict[Cause, list[FileInputError]] = {}
    for finding in findings:
        by_cause.setdefault(finding.cause, []).append(finding)
    lines = []
    for cause, found in by_cause.items():
        if len(found) > SHOWN:
            lines.append(one_entry(cause, found, root))
        else:
            lines += [str(finding) for finding in found]
    return lines


def is_ours(path: Path) -> bool:
    """Whether a list of an earlier time lies there."""
    if path.is_symlink() or not path.is_file():
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline(200).rstrip("\n") == FIRST_LINE


def save_list(name: str, lines: Sequence[str]) -> Path:
    """Write the whole list, never over a file that is somebody else's."""
    path = own_path(Path(OUTPUT, f"problems-{name[:80]}.txt"), is_ours)
    text = "\n".join([FIRST_LINE, "", *lines]) + "\n"
    write_text(path, text)
    return path


def cut(sentence: str) -> str:
    """What is too long for a screen, to where one sees what it is."""
    lines = sentence.splitlines()
    if len(lines) <= LONGEST:
        return sentence
    return "\n".join([*lines[:5], f"… and {len(lines) - 5} more lines, which are in that file"])


def told(
    problems: Sequence[InputError | str], root: Path, pairs: int, likely: Sequence[str] = ()
) -> InputError:
    """All that is wrong, to be read on one screen; likely cures come first."""
    unique = {str(problem): as_finding(problem) for problem in problems}
    # What has lines of its own, a table to copy, comes last: nothing follows what is copied.
    ordered = sorted(unique.values(), key=lambda finding: "\n" in str(finding))
    head = f"{len(ordered)} thing(s) to put right in {root}, where {pairs} pairs were found:"
    whole = [*likely, *map(str, ordered)]
    short = [*likely, *map(cut, entries(ordered, root))]
    if short == whole:
        return InputError("\n".join([head, *whole]))
    try:
        path = save_list(root.resolve().name, [head, *whole])
    except (InputError, OSError) as error:
        unwritten = f"all of them are listed here, as they can't be written to a file ({error}):"
        return InputError("\n".join([head, unwritten, *whole]))
    return InputError("\n".join([head, f"each of them is listed in {path}", *short]))
