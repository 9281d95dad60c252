import io
import subprocess
import sys
import time

from toolbox import bars

import pytest


def test_in_a_file_a_bar_is_a_line_now_and_then(project, tmp_path):
    log = tmp_path / "log"
    small = ["image_size=16", "features=4", "training_iterations=400", "eval_interval=100"]
    with open(log, "w") as file:
        done = subprocess.run(
            [sys.executable, "train.py", *small, "device=cpu"], cwd=project, stderr=file
        )
    text = log.read_text()
    assert done.returncode == 0 and "\r" not in text and "\n\n" not in text
    lines = [line for line in text.splitlines() if line.startswith("training")]
    assert 2 <= len(lines) <= 4 and "400/400" in lines[-1]
    assert len(text) < 4000


def test_the_line_comes_after_some_seconds_however_fast_the_steps_are(monkeypatch):
    out = io.StringIO()
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setattr(bars, "SELDOM", 0.2)
    for _ in bars.Counting(range(60), "waiting"):
        time.sleep(0.01)
    lines = out.getvalue().splitlines()
    assert 3 <= len(lines) <= 6 and lines[0].startswith("waiting:   0%")


@pytest.mark.parametrize("leave", [True, False])
def test_on_a_terminal_it_moves(monkeypatch, leave):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    monkeypatch.setattr(sys, "stderr", out)
    for _ in bars.Counting(range(3), "moving", leave=leave, mininterval=0):
        pass
    assert out.getvalue().count("\rmoving") >= 3
