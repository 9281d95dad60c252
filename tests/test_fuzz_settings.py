"""A short round of the settings that the script makes up; the long one is for running by hand."""

import os
import subprocess
import sys

import pytest
from conftest import ROOT


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks")
def test_settings_of_any_kind_are_done_or_refused_in_a_sentence(tmp_path):
    script = ROOT / "experiments" / "fuzz_settings.py"
    done = subprocess.run(
        [sys.executable, script, "tries=40"], cwd=tmp_path, capture_output=True, text=True
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0 and " 0 faults" in done.stdout
