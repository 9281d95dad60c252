"""What the five files call by name: machinery that a learner may skip. It imports none of the
five."""

import sys


def end_quietly(kind: type, error: BaseException, trace) -> None:
    """Ctrl-C while a script's imports are at work, before it can hear of it, is no fault."""
    if issubclass(kind, KeyboardInterrupt):
        print("stopped", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


if sys.excepthook is sys.__excepthook__:
    sys.excepthook = end_quietly
