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
def test_memory_that_was_freed_is_kept_for_what_comes_next():
    """In processes of their own: the pages of three times 64 MB are made anew each time, unless
    they are kept."""
    lines = [
        "import resource, torch\nfrom toolbox import machine",
        "machine.keep_memory() if {keep} else None",
        "for _ in range(20): torch.ones(2 ** 24)",
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt",
        "for _ in range(3): torch.ones(2 ** 24)",
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)",
    ]
    made = {
        keep: int(
            subprocess.run(
                [sys.executable, "-c", "\n".join(lines).format(keep=keep)],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for keep in (False, True)
    }
    assert made[True] < made[False] / 10, made


def test_bf16_is_chosen_only_where_the_chip_multiplies_in_it(monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True}, raising=False)
    assert Place("cpu", "auto").precision == "bf16"
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": False, "avx2": True})
    assert Place("cpu", "auto").precision == "fp32"
