"""A short round of the checkpoints that the script spoils; the long one is for running by hand."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_spoilt_checkpoints_do_no_harm_or_are_refused_in_a_sentence(tmp_path):
    script = ROOT / "experiments" / "fuzz_checkpoints.py"
    done = subprocess.run(
        [sys.executable, script, "checkpoints=40"], cwd=tmp_path, capture_output=True, text=True
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0 and "40 checkpoints" in done.stdout and ", 0 faults" in done.stdout
