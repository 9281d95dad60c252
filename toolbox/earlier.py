"""The run that is to go on: by its name, the newest, or the one that torchrun takes up again."""

import os
from contextlib import suppress
from itertools import chain
from pathlib import Path

from toolbox.best import check_best
from toolbox.errors import InputError
from toolbox.files import last_files
from toolbox.processes import is_restarted, launch
from toolbox.resuming import look_at_run
from toolbox.runs import FOLDS, OUTPUT, PUBLISHED, check_unused


def newest_first(run_dir: str) -> list[Path]:
    """The last.pth of runs that could go on."""
    folders = [Path(run_dir)] if run_dir else OUTPUT.glob("*")
    found = chain.from_iterable(map(last_files, folders))
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def find_run(run_dir: str, resume: str) -> Path | None:
    """The run that resume names, or that torchrun takes up again; or None for a new one."""
    found = newest_first(run_dir)
    if is_restarted():
        for path in found:
            with suppress(InputError):  # it may be anybody's file
                saved = look_at_run(path)
                if saved["resume"].get("launch") == launch():
                    return run_of(path, saved)
    if not resume:
        if run_dir:
            check_unused(Path(run_dir))  # before the pictures are read, which takes a while
        return None
    if str(resume).lower() == "true":  # also where it is edited to be True
        path = newest_run(found, run_dir)
    else:
        path = named_run(resume)
    saved = look_at_run(path)  # what is amiss is said before pictures are read
    check_best(path.parent, saved, PUBLISHED)
    run = run_of(path, saved)
    is_named = str(resume).lower() != "true"
    if run_dir and is_named and os.path.realpath(run) != os.path.realpath(run_dir):
        raise InputError(
            f"resume is {resume!r} and run_dir is {run_dir!r}, but a run goes on in its own "
            "folder; leave one of the two out"
        )
    return run


def run_of(path: Path, saved: dict) -> Path:
    """The folder of the run that a last.pth is of: one above, where it is a fold's."""
    run = path.parent
    if not saved["constants"].get("folds"):
        return run
    if not (run.parent / FOLDS).is_file():  # else a stranger's folder would get more folds
        raise InputError(
            f"{run} is a fold of a run, and {run.parent} has no {FOLDS}, as that run's folder has; "
            "put it back there"
        )
    return run.parent


def newest_run(found: list[Path], run_dir: str) -> Path:
    if not found:
        raise InputError(
            f"there is no run in {run_dir or OUTPUT} yet to go on with; start one: python train.py"
        )
    return found[0]


def named_run(resume: str) -> Path:
    """The last.pth of the run that resume names, by that file or its folder."""
    path = Path(resume)
    said = f"resume is {resume!r}"
    if os.path.isfile(path) and path.name != "last.pth":
        raise InputError(
            f"{said}, a file that no run goes on from; expected {path.parent}, where "
            "its last.pth lies, or that file"
        )
    run = path.parent if path.name == "last.pth" else path
    if not os.path.isdir(run):
        raise InputError(f"{said}, but there is no folder {run}; expected a run's, or its last.pth")
    found = newest_first(str(run))
    if not found:
        raise InputError(
            f"{said}, but {run} holds no run that could go on (no last.pth); start one with "
            'resume=""'
        )
    return found[0]
