"""The run that is to go on: by its name, the newest, or the one that torchrun takes up again."""

import os
from contextlib import suppress
from pathlib import Path

from toolbox.best import check_best
from toolbox.errors import InputError
from toolbox.processes import is_restarted, launch
from toolbox.resuming import look_at_run
from toolbox.runs import OUTPUT, PUBLISHED, check_unused


def newest_first(run_dir: str) -> list[Path]:
    """The last.pth of runs that could go on."""
    if run_dir:
        found = [Path(run_dir, "last.pth")]
    else:
        found = list(OUTPUT.glob("*/last.pth"))
    found = [path for path in found if os.path.exists(path)]  # False where a name is too long
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def find_run(run_dir: str, resume: str) -> Path | None:
    """The run that resume names, or that torchrun takes up again; or None for a new one."""
    found = newest_first(run_dir)
    if is_restarted():
        for path in found:
            with suppress(InputError):  # it may be anybody's file
                if look_at_run(path)["resume"].get("launch") == launch():
                    return path.parent
    if not resume:
        if run_dir:
            check_unused(Path(run_dir))  # before the pictures are read, which takes a while
        return None
    if str(resume).lower() == "true":  # also where it is edited to be True
        run = newest_run(found, run_dir)
    else:
        run = named_run(resume)
    saved = look_at_run(run / "last.pth")  # what is amiss is said before pictures are read
    check_best(run, saved, PUBLISHED)
    return run


def newest_run(found: list[Path], run_dir: str) -> Path:
    if not found:
        raise InputError(
            f"there is no run in {run_dir or OUTPUT} yet to go on with; start one: python train.py"
        )
    return found[0].parent


def named_run(resume: str) -> Path:
    """The run's folder that resume names, itself or by its last.pth."""
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
    if not os.path.exists(run / "last.pth"):
        raise InputError(
            f"{said}, but {run} holds no run that could go on (no last.pth); start one with "
            'resume=""'
        )
    return run
