"""A run's folder: made, gone on with or refused; its best weights kept and published."""

import filecmp
import itertools
import os
import re
from collections.abc import Collection
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from toolbox.checkpoints import look_into
from toolbox.errors import InputError
from toolbox.files import JUNK, LOCK, check_writable, in_run, last_files, write_atomic, writing
from toolbox.processes import processes
from toolbox.settings import FREE_TO_CHANGE, as_data, training_scales
from toolbox.sweeping import is_old, sweep_torn, written_aside

OUTPUT = Path("TrainingOutput")
PUBLISHED = Path("unet_model.pth")  # the best weights of the newest run
DRAWN = {"curves.png", "learning_rate.png", "learning.png", "worst.png", "classes.png"}
DRAWN_LAST = {"confusion.png", "report.html"}
FOLDS, JUDGED = "folds.csv", "judged.json"  # of all folds, and of one of them
RUN_FILES = {"last.pth", "best.pth", "history.csv", "report.json", *DRAWN, *DRAWN_LAST}
RUN_FILES |= {FOLDS, JUDGED}
FIRST_FILES = {"last.pth", "learning_rate.png", FOLDS}  # what a run without a last.pth may be at
# The first runs had no such constants.
FIRST_CONSTANTS = {
    **{"optimizer": "adamw", "patch": 1, "augment_strength": 1.0, "training_scale": 1.0},
    **{"crop_size": [0, 0], "folds": 0, "mix": 0.0},
}


# ---- making ----


def make_run(name: str, run_dir: str, pictures: Collection[Path] = ()) -> Path:
    """A new run's folder: run_dir, or one named after the data set and the time; never among the
    folders of the data set's pictures."""
    with writing(Path(run_dir or OUTPUT)):
        if not run_dir:
            return make_folder(name)
        run = Path(run_dir)
        check_unused(run)
        for folder in pictures:
            if Path(os.path.realpath(run)).is_relative_to(os.path.realpath(folder)):
                raise InputError(
                    f"run_dir {run} lies in {folder}, among the pictures of {name}; name a folder "
                    "elsewhere"
                )
        run.mkdir(parents=True, exist_ok=True)
        return run


def make_folder(name: str) -> Path:
    check_writable(OUTPUT)
    stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    for number in itertools.count(1):  # another run may have begun in the same second
        run = OUTPUT / (stem if number == 1 else f"{stem}-{number}")
        with suppress(FileExistsError):
            run.mkdir()
            return run


def check_unused(run: Path) -> None:
    """A new run writes only into a folder that is not there yet, that is empty, or that a run began
    with which was ended before its first last.pth."""
    if not os.path.lexists(run):
        return
    if not run.is_dir():
        raise InputError(f"run_dir {run} is no folder; name an empty one or a new one")
    if last_files(run):
        raise InputError(
            f"run_dir {run} holds a run already; go on with it by resume={run}, name another, or "
            "move it away"
        )
    foreign = foreign_files(run)
    if foreign:
        more = f", … {len(foreign)} in all" if len(foreign) > 3 else ""
        raise InputError(
            f"run_dir {run} holds files that are of no run that could go on "
            f"({', '.join(foreign[:3])}{more}); name an empty folder or a new one"
        )


def foreign_files(run: Path) -> list[str]:
    """The names of what no run has put there that could still begin; the lock says that one did."""
    found = {path.name: written_aside(path) or path.name for path in run.iterdir()}
    own = {LOCK, *FIRST_FILES} if LOCK in found else set()
    for path in run.glob("fold-[0-9]*"):
        if own and path.is_dir() and not foreign_files(path):
            own.add(path.name)
    return sorted(
        name
        for name, meant in found.items()
        if meant not in own and name.lower() not in {*JUNK, ".ds_store"}
    )


def sweep_run(run: Path) -> None:
    """Take away what a kill left half written: here, where the lock is held, and of unet_model.pth,
    which other runs may be at, what is old."""
    torn = [path for path in run.iterdir() if written_aside(path) in RUN_FILES]
    for path in run.glob("predictions/.*"):
        if re.fullmatch(r"step_[0-9]{6,}\.png", written_aside(path)):
            torn.append(path)
    for path in PUBLISHED.parent.glob(f".{PUBLISHED.stem}*"):
        meant = re.fullmatch(r"unet_model(-[0-9]{8}-[0-9]{6}(-[0-9]+)?)?\.pth", written_aside(path))
        if meant and is_old(path):
            torn.append(path)
    sweep_torn(torn)


# ---- going on ----


def depends_on_length(constants: dict) -> bool:
    """Whether a step would be another, its rate or its size, if training_iterations were."""
    if len(training_scales(constants)) > 1:
        return True
    has_own_pace = constants["lr_schedule"] == "sqrt" and constants["decay_factor"] > 0
    return not has_own_pace and constants["lr_schedule"] != "plateau"


def check_same(run: Path, saved: dict, constants: dict, pictures: str) -> None:
    """A run goes on as it began, on the same pictures, or not at all."""
    state, then = saved["resume"], {**FIRST_CONSTANTS, **saved["constants"]}
    constants = as_data(constants)
    free = set(FREE_TO_CHANGE)
    if not depends_on_length(constants):
        free.add("training_iterations")
    changed = []
    for name, now in constants.items():
        if name not in free and now != then.get(name):
            changed.append(f"{name} is {now!r} and was {then.get(name)!r}")
    before = state.get("processes", 1)
    if before != processes():
        changed.append(f"the number of processes is {processes()} and was {before}")
    if changed:
        raise InputError(
            f"{run} can't go on otherwise than it began: {', '.join(changed)}; give it the same "
            "settings, or start a new run"
        )
    if state["data"] != pictures:
        raise InputError(
            f"{run} can't go on: the pictures or masks of {constants['dataset']} have changed "
            "since; put them back, or start a new run"
        )


# ---- the best weights ----


def copy_file(source: Path, target: Path) -> None:
    write_atomic(target, lambda file: file.write(source.read_bytes()))


def publish(run: Path) -> None:
    """Make the run's best weights unet_model.pth."""
    copy_file(run / "best.pth", PUBLISHED)


def check_published() -> None:
    """unet_model.pth can be written: hours later, with the best weights, it would be late to say
    that it can't."""
    if os.path.lexists(PUBLISHED) and not PUBLISHED.is_file():
        raise InputError(
            f"{PUBLISHED} is no file, and the best weights are to have that name; move it away"
        )
    check_writable(PUBLISHED.parent)


def is_published(path: Path) -> bool:
    """Whether a file is the same as unet_model.pth."""
    with suppress(OSError):  # it may be somebody else's, and closed to us
        return path.is_file() and filecmp.cmp(path, PUBLISHED, shallow=False)
    return False


def keep_earlier(run: Path) -> None:
    """A unet_model.pth that no run holds as its best.pth is kept beside the one that replaces
    it."""
    check_published()
    if not PUBLISHED.exists():
        return
    folders = [run, run.parent, *OUTPUT.glob("*")]
    with suppress(InputError, KeyError, TypeError):  # it may be anybody's file
        run_dir = look_into(PUBLISHED)[0]["constants"]["run_dir"]
        folders.append(Path(run_dir or "nowhere"))
    for folder in folders:
        if any(is_published(path) for path in in_run(folder, "best.pth")):
            return
    written = datetime.fromtimestamp(PUBLISHED.stat().st_mtime)
    stem = f"unet_model-{written:%Y%m%d-%H%M%S}"
    for number in itertools.count(1):
        name = stem if number == 1 else f"{stem}-{number}"
        kept = PUBLISHED.with_name(f"{name}.pth")
        if is_published(kept):  # by an earlier run
            return
        if not os.path.lexists(kept):
            break
    copy_file(PUBLISHED, kept)
    print(f"{PUBLISHED} is of no run in TrainingOutput; it is kept as {kept}")
