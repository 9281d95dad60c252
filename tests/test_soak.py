"""A short round of the soak script; the long one is for running by hand."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT

SHORT = ("kills=6", "pictures=100", "fills=1", "strangers=8")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_a_short_soak_finds_nothing(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / "experiments" / "soak.py", *SHORT],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    print(done.stdout, done.stderr)
    assert (
        done.returncode == 0
        and "(a) 6 kills" in done.stdout
        and "(b) 100 damaged pictures" in done.stdout
        and "(c) " in done.stdout
        and "(d) 8 kills among" in done.stdout
    )
