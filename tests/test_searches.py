"""Short rounds of the scripts that make up settings, folders and spoilt checkpoints; the long ones
are for running by hand."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from fuzz_folders import wrong_pixels
from made_folders import VOID, Made


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the scripts fork, and make pipes")
@pytest.mark.parametrize(
    "script, tries",
    [("settings", "tries=40"), ("folders", "folders=40"), ("checkpoints", "checkpoints=40")],
)
def test_what_is_made_up_is_done_right_or_refused_in_a_sentence(tmp_path, script, tries):
    command = [sys.executable, ROOT / "experiments" / f"fuzz_{script}.py", tries]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    print(done.stdout, done.stderr)
    count = int(done.stdout.split()[0])
    assert done.returncode == 0 and count >= 40 and " 0 faults" in done.stdout


def test_a_wrong_pixel_is_a_fault(tmp_path):
    classes = np.array([[0, 1, VOID]])
    made = Made(tmp_path, images={"a.jpg": None}, classes={"a.jpg": classes}, ids={0: 1, 1: 0})
    (tmp_path / "read.json").write_text('["a.jpg"]')

    def read(ids) -> None:
        np.savez(tmp_path / "read.npz", image0=np.zeros(1), ids0=np.array([ids]))

    read([1, 0, 255])
    assert not wrong_pixels(tmp_path, made, is_open=False)
    assert not wrong_pixels(tmp_path, made, is_open=True)
    read([0, 1, 255])
    assert wrong_pixels(tmp_path, made, is_open=False)
    assert not wrong_pixels(tmp_path, made, is_open=True)
    for ids in ([1, 1, 255], [1, 255, 2], [1, 0, 0]):
        read(ids)
        assert wrong_pixels(tmp_path, made, is_open=True)
