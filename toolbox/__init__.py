"""What the five files call by name: machinery that a learner may skip. It imports none of the
five."""

import multiprocessing
import os
import signal
import sys
from pathlib import Path


def stop_at_once(*_) -> None:
    """Ctrl-C while a script's imports are at work, which take seconds: there is nothing to save."""
    os.write(2, b"stopped\n")
    os._exit(130)


def is_script() -> bool:
    """Whether one of this project's scripts was started, and not a test, say, that imports them."""
    project = Path(__file__).resolve().parent.parent
    main = Path(getattr(sys.modules["__main__"], "__file__", None) or "nowhere/none")
    is_ours = main.resolve().parent in (project, project / "experiments")  # .venv may lie in it too
    return is_ours and multiprocessing.parent_process() is None


def missing_quotes(kind: type, error: BaseException, trace) -> None:
    """dataset = mine in a script: a name that Python doesn't know, where a text was meant."""
    if kind is not NameError or trace.tb_next:
        sys.__excepthook__(kind, error, trace)
        return
    script = Path(trace.tb_frame.f_code.co_filename).name
    print(
        f"line {trace.tb_lineno} of {script}: {error}; a text stands between quotes, as in "
        f'"{error.name}"',
        file=sys.stderr,
    )


if is_script():
    sys.excepthook = missing_quotes
if is_script() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, stop_at_once)  # until toolbox.errors takes over
