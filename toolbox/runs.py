"""A run's folder: found, made, gone on with or refused; its best weights kept and published."""

import filecmp
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from toolbox.errors import InputError
from toolbox.files import read_checkpoint, write_atomic, writing
from toolbox.processes import is_restarted, launch, processes
from toolbox.settings import FREE_TO_CHANGE, as_data

OUTPUT = Path("TrainingOutput")
PUBLISHED = Path("unet_model.pth")  # the best weights of the newest run
RUN_FILES = ("last.pth", "best.pth", "history.csv", "report.json")
# The first runs had no such constants.
FIRST_CONSTANTS = {"optimizer": "adamw", "patch": 1, "augment_strength": 1.0, "training_scale": 1.0}


# ---- finding and making ----


def newest_first(run_dir: str) -> list[Path]:
    """The last.pth of runs that could go on."""
    if run_dir:
        found = [Path(run_dir, "last.pth")]
    else:
        found = list(OUTPUT.glob("*/last.pth"))
    found = [path for path in found if path.exists()]
    return sorted(found, key=lambda path: path.stat().st_mtime, reverse=True)


def find_run(run_dir: str, resume: str) -> Path | None:
    """The run that resume names, or that torchrun takes up again; or None for a new one."""
    found = newest_first(run_dir)
    if is_restarted():
        for path in found:
            with suppress(InputError):  # it may be anybody's file
                if read_checkpoint(path).get("resume", {}).get("launch") == launch():
                    return path.parent
    if not resume:
        return None
    if str(resume).lower() == "true":  # also where it is edited to be True
        run = found[0].parent if found else Path(run_dir or OUTPUT)
    elif Path(resume).name == "last.pth":
        run = Path(resume).parent
    else:
        run = Path(resume)
    if not (run / "last.pth").exists():
        raise InputError(
            f"resume is {resume!r}, but {run} holds no run that could go on (no last.pth); "
            'start one with resume=""'
        )
    return run


def make_run(name: str, run_dir: str) -> Path:
    """A new run's folder: run_dir, or one named after the data set and the time."""
    with writing(Path(run_dir or OUTPUT)):
        return make_folder(name, run_dir)


def make_folder(name: str, run_dir: str) -> Path:
    if not run_dir:
        stem = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
        endings = ["", *(f"-{number}" for number in range(2, 100))]
        for ending in endings:  # another run may have begun in the same second
            with suppress(FileExistsError):
                run = OUTPUT / (stem + ending)
                run.mkdir(parents=True)
                return run
    run = Path(run_dir)
    check_unused(run)
    run.mkdir(parents=True, exist_ok=True)
    return run


def check_unused(run: Path) -> None:
    """A folder that holds a run is never written over by another."""
    if any((run / name).exists() for name in RUN_FILES):
        raise InputError(
            f"run_dir {run} holds a run already; go on with it by resume={run}, name another, or "
            "move it away"
        )


# ---- going on ----


def depends_on_length(constants: dict) -> bool:
    """Whether the learning rate would be another if training_iterations were."""
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


def keep_earlier(run: Path) -> None:
    """A unet_model.pth that no run holds as its best.pth is kept beside the one that replaces
    it."""
    if not PUBLISHED.is_file():
        return
    known = [run / "best.pth", *OUTPUT.glob("*/best.pth")]
    with suppress(InputError, KeyError, TypeError):  # it may be anybody's file
        run_dir = read_checkpoint(PUBLISHED)["constants"]["run_dir"]
        known.append(Path(run_dir or "nowhere", "best.pth"))
    for path in known:
        if path.exists() and filecmp.cmp(path, PUBLISHED, shallow=False):
            return
    written = datetime.fromtimestamp(PUBLISHED.stat().st_mtime)
    kept = PUBLISHED.with_name(f"unet_model-{written:%Y%m%d-%H%M%S}.pth")
    copy_file(PUBLISHED, kept)
    print(f"{PUBLISHED} is of no run in TrainingOutput; it is kept as {kept}")
