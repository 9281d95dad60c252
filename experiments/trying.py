"""Tries of rough treatment, each in a process of its own: what became of it, and whether that is
right, or refused as it should be."""

import hashlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from toolbox.errors import InputError

import torch

LONGEST = 60  # lines of a refusal


def in_child(work: Callable[[], int | None], log: Path) -> int:
    """Fork, so that imports are paid once; the child's words go to log. Returns its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        torch.set_num_threads(1)
        with open(log, "w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        status = work() or 0
    except InputError as problem:
        print(problem, flush=True)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, flush=True)
        else:
            status = end.code or 0
    except BaseException:
        traceback.print_exc()
        status = 2
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def wait(child: int, limit: float) -> int | None:
    """The child's exit status, or None if it took longer than limit seconds and was killed."""
    deadline = time.time() + limit
    while time.time() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def try_out(work: Callable[[], int | None], log: Path, limit: float = 60) -> tuple[int | None, str]:
    """The exit status of work in a child, None for one that hangs, and all that it said."""
    status = wait(in_child(work, log), limit)
    return status, log.read_text(encoding="utf-8", errors="replace")


def fault_of(status: int | None, words: str, names: Sequence[str]) -> str:
    """What is wrong with how a try ended: neither done nor refused in words that name one of
    these."""
    if status is None:
        return "it hangs"
    if "Traceback" in words:
        return "a traceback"
    if status == 0:
        return ""
    if status != 1:
        return f"exit status {status}"
    if not any(name in words for name in names):
        return "the refusal names nothing"
    lines = words.strip().count("\n") + 1
    return f"{lines} lines of refusal" if lines > LONGEST else ""


def snapshot(folder: Path) -> dict[str, str]:
    """What lies in a folder: a digest of each file, where each link leads, what else there is."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"to {os.readlink(path)}"
        elif path.is_file():
            found[name] = hashlib.blake2b(path.read_bytes()).hexdigest()
        else:
            found[name] = "a folder" if path.is_dir() else "a device"
    return found


@dataclass
class Tally:
    """How many tries ended in which way, and what was wrong with any."""

    right: int = 0
    refused: int = 0
    faults: list[str] = field(default_factory=list)

    def add(self, status: int | None, fault: str, about: str) -> None:
        if fault:
            self.faults.append(f"{about}: {fault}")
        elif status == 0:
            self.right += 1
        else:
            self.refused += 1

    def count(self) -> int:
        return self.right + self.refused + len(self.faults)

    def __str__(self) -> str:
        return f"{self.right} right, {self.refused} refused in words, {len(self.faults)} faults"
