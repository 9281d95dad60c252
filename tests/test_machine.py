import platform
import subprocess
import sys

from toolbox.machine import Place

import pytest
import torch
from conftest import ROOT


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries have no such option"
)
def test_memory_that_was_freed_is_kept_for_what_comes_next_until_it_is_released():
    """In processes of their own: the pages of three times 64 MB are made anew each time, unless
    they are kept."""
    lines = [
        "import resource, torch\nfrom toolbox import memory",
        "for name in {calls}: getattr(memory, name)()",
        "for _ in range(20): torch.ones(2 ** 24)",
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt",
        "for _ in range(3): torch.ones(2 ** 24)",
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)",
    ]
    made = {
        calls: int(
            subprocess.run(
                [sys.executable, "-c", "\n".join(lines).format(calls=calls)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for calls in ((), ("keep_memory",), ("keep_memory", "release_memory"))
    }
    as_it_is, kept, released = made.values()
    assert kept < min(as_it_is, released) / 10, made


def test_numbers_too_small_to_reckon_with_fast_are_taken_for_0():
    """In a process of its own, as it is set once; by all threads."""
    lines = [
        "import torch\nfrom toolbox.machine import Place",
        "assert torch.set_flush_denormal(False) or print('skip')",
        "torch.set_num_threads(2)\nPlace('cpu', 'fp32')",
        "tiny = torch.full((2**20,), 1e-30)",
        "print((tiny * 1e-9).count_nonzero().item())",
    ]
    said = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    if "skip" in said:
        pytest.skip("this chip has no such setting")
    assert said == ["0"]


def test_bf16_is_chosen_only_where_the_chip_multiplies_in_it(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert Place("cpu", "auto").precision == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "avx2": True})
    assert Place("cpu", "auto").precision == "fp32"
