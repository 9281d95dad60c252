"""What a user can put right ends in one sentence: what was found, what was expected, what to do."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from toolbox import stop_at_once
from toolbox.processes import is_first, processes

LOST_COMPANY = ("Connection closed", "Connection reset", "Broken pipe", "imed out", "abort")
NO_MEMORY = ("out of memory", "can't allocate memory", "Insufficient memory", "std::bad_alloc")
# oneDNN's words, and those of Python where a thread's own memory is not to be had
NO_MEMORY += ("could not create a primitive", "could not execute a primitive", "start new thread")


class InputError(Exception):
    """Something a user can put right; the message says what was found and expected, and what to
    do."""


def few(names: Sequence[str], most: int = 3) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def check_parts(setting: str, text: str, known: dict, example: str) -> list:
    """What a text such as "flip+color" names of what is known."""
    names = text.split("+")
    for name in names:
        if name not in known:
            raise InputError(
                f"{setting} is {text!r}, of which {name!r} is unknown; expected "
                f"{', '.join(known)} or some of them such as {example}"
            )
    return [known[name] for name in names]


# ---- running short of memory ----


def is_out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory; on CPUs PyTorch has no error of its own for it."""
    return isinstance(error, MemoryError) or any(words in str(error) for words in NO_MEMORY)


def smaller_batch(batch_size: int, accum_steps: int) -> str:
    """Settings that need less memory and show as many pictures to a step."""
    for size in range(batch_size // 2, 0, -1):
        if batch_size % size == 0:
            parts = accum_steps * batch_size // size
            return f"batch_size={size} with accum_steps={parts}, as many pictures to a step"
    return "a smaller image_size"


@contextmanager
def memory_explained(where: str, constants: dict) -> Iterator[None]:
    """Too little memory in training ends in a sentence that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if "shared memory" in str(error):
            raise InputError(
                "the workers ran out of shared memory, of which containers have little; "
                "give more (docker: --shm-size=8g), or set num_workers=0"
            ) from error
        if not is_out_of_memory(error):
            raise
        batch_size, accum_steps = constants["batch_size"], constants["accum_steps"]
        raise InputError(
            f"out of memory on {where} with batch_size {batch_size}, image_size "
            f"{constants['image_size']} and features {constants['features']}; "
            f"try {smaller_batch(batch_size, accum_steps)}, or lower image_size or features "
            f"({str(error).splitlines()[0]})"
        ) from error


# ---- the end of a script ----


class Terminated(KeyboardInterrupt):
    """SIGTERM, which systems send before they kill, is answered as Ctrl-C is."""


@contextmanager
def terminated_in_words() -> Iterator[None]:
    """SIGTERM ends what is at work in good order; several processes torchrun ends, and at once."""
    if processes() > 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    own = os.getpid()

    def terminate(*_) -> None:
        if os.getpid() != own:  # one that was forked, and is ended by this one
            os._exit(143)
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def ending_in_a_sentence() -> Iterator[None]:
    """What the user can put right ends the script in a sentence, not in a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names that a terminal's alphabet lacks are spelled out
            stream.reconfigure(errors="backslashreplace")
    if signal.getsignal(signal.SIGINT) is stop_at_once:  # from here on it is an exception
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with terminated_in_words():
            yield
            sys.stdout.flush()
    except InputError as problem:
        # One from a worker comes with the worker's traceback before it.
        leave(str(problem).rpartition("InputError: ")[2])
    except KeyboardInterrupt as stop:
        print("stopped", file=sys.stderr)
        status = 143 if isinstance(stop, Terminated) else 130
        sys.exit(status)
    except BrokenPipeError:  # whoever read what is printed has enough, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.filename is None:
            raise
        leave(f"{error.filename} can't be used ({error.strerror}); name another, or mend it")
    except RuntimeError as error:
        if processes() == 1 or not any(words in str(error) for words in LOST_COMPANY):
            raise
        leave(
            "another process of this run has ended; what it said stands above. Without a cause "
            "there it was killed: start again, training with resume=true, or let torchrun do so "
            f"by itself with --max-restarts=3 ({str(error).splitlines()[0]})"
        )


def leave(sentence: str) -> None:
    """End with a sentence."""
    if processes() == 1:
        sys.exit(sentence)
    if (
        not is_first()
    ):  # where all failed alike, the first says so and torchrun ends the others meanwhile
        time.sleep(2)
    print(sentence, file=sys.stderr, flush=True)
    os._exit(1)  # leaving in good order would wait for the others, who wait for this one
