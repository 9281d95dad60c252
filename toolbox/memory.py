"""Memory: kept for what comes next, and never more taken than the machine has."""

import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_MMAP_MAX = -1, -3, -4  # in malloc.h
OWN_GROUP, GROUPS = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")  # containers' and jobs'
SHARE = 0.9  # of the memory, for one process: the rest is the system's and other programs'


def set_heap(options: Mapping[int, int]) -> ctypes.CDLL | None:
    """Numbers and values of malloc.h's options to glibc, the C library of most Linux systems; None:
    this is another."""
    with suppress(AttributeError, TypeError):
        library = ctypes.CDLL(None)
        for number, value in options.items():
            library.mallopt(number, value)
        return library
    return None


def keep_memory() -> None:
    """Keep what was freed for what comes next, as a step asks for the same sizes again and again.

    The C library would give each large tensor's memory back and let the system make all its pages
    anew a moment later, a fifth of a step on CPUs.
    """
    # No tensor gets a mapping of its own, which would end with it; and the heap never shrinks.
    set_heap({M_MMAP_MAX: 0, M_TRIM_THRESHOLD: -1})


def release_memory() -> None:
    """Give it back, and from now on too: judging asks for all sizes, and what is kept of each
    would fill a small machine."""
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()
    library = set_heap({M_MMAP_MAX: 2**16, M_MMAP_THRESHOLD: 2**22, M_TRIM_THRESHOLD: 2**26})
    if library:
        library.malloc_trim(0)


def limits() -> Iterator[Path]:
    """Files that may say what this process's group, or one that it lies in, may have. Of the first
    version of groups those of memory lie in a folder of their own."""
    places = {GROUPS: Path("memory.max"), GROUPS / "memory": Path("memory.limit_in_bytes")}
    groups = {Path("/")}  # in a container its own may not be seen under its name
    with suppress(OSError):
        for line in OWN_GROUP.read_text().splitlines():
            own = Path("/", line.split(":", 2)[-1])
            groups |= {own, *own.parents}
    for root, name in places.items():
        yield from (root / group.relative_to("/") / name for group in groups)


def memory() -> int:
    """The machine's memory in bytes, or what its container may have of it; 0: not to be told."""
    with suppress(AttributeError, OSError, ValueError):
        least = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        for limit in limits():
            with suppress(OSError, ValueError):  # it may say max
                least = min(least, int(limit.read_text()))
        return least
    return 0


def own_data() -> int:
    """Bytes that this process has asked for and may write to; 0: not to be told."""
    with suppress(OSError, ValueError, IndexError):  # Linux alone
        return int(Path("/proc/self/statm").read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")
    return 0


@contextmanager
def held_to(share: float, device: torch.device) -> Iterator[None]:
    """For a while at most a share of the memory that this process may still ask for: what the
    libraries hold, most of a small machine's, any run has too."""
    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share, device)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
        return
    try:
        import resource
    except ImportError:  # Windows
        yield
        return
    before = resource.getrlimit(resource.RLIMIT_DATA)
    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_DATA, resource.RLIMIT_AS)]
    most = min([limit for limit in limits if limit != resource.RLIM_INFINITY] or [memory()])
    own = min(most, own_data())
    with suppress(OSError, ValueError):
        if most:
            limit = own + int(share * (most - own))
            resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def most_held(device: torch.device) -> int:
    """Bytes that this process has had at once, on a GPU or of the machine's; 0: not to be told."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(ImportError):  # Windows
        import resource

        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else 1024 * most
    return 0


def bound_memory() -> None:
    """Ask for no more than there is: what is too much then fails, and can be answered in a
    sentence, where the system would kill the process without a word."""
    with suppress(ImportError, AttributeError, OSError, ValueError):  # systems without such limits
        import resource

        _, highest = resource.getrlimit(resource.RLIMIT_DATA)
        most = int(memory() * SHARE)
        if most and (highest == resource.RLIM_INFINITY or most < highest):
            resource.setrlimit(resource.RLIMIT_DATA, (most, highest))
