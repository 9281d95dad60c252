"""How scripts end: in a sentence, whatever ended them."""

import os
import signal
import subprocess
import sys

import pytest
from conftest import ROOT

SLOW = """
import sys, time
from toolbox import settings
def main():
    print("begun", flush=True)
    time.sleep(30)
settings.run_script({"__file__": "slow.py"}, main)
"""


def hear_ctrl_c() -> None:
    """As a terminal starts it: tests in the background are deaf to Ctrl-C, and so are theirs."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.skipif(os.name == "nt", reason="Windows ends processes without asking")
@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_script_in_a_word_wherever_it_is(number, status):
    script = subprocess.Popen(
        [sys.executable, "-c", SLOW],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=hear_ctrl_c,
    )
    assert script.stdout.readline() == b"begun\n"
    script.send_signal(number)
    out, errors = script.communicate(timeout=20)
    assert (script.returncode, out, errors) == (status, b"", b"stopped\n")


@pytest.mark.skipif(os.name == "nt", reason="there is no head")
def test_whoever_reads_what_is_printed_may_stop_reading():
    command = f"{sys.executable} train.py -h | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("Train a U-Net") and done.stderr == ""
    lines = """
from toolbox import settings
def main():
    for _ in range(9999):
        print("line " * 99)
settings.run_script({"__file__": "x.py"}, main)
"""
    command = f'{sys.executable} -c "$0" | head -1'
    done = subprocess.run(["bash", "-c", command, lines], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.startswith("line line") and done.stderr == ""


def test_names_that_a_terminal_can_not_show_are_spelled_out(tmp_path):
    lines = "from toolbox import settings\n"
    lines += (
        "settings.run_script({'__file__': 'x.py'}, lambda: print('ein Bär, Größe 3×4, \\udcff'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", lines],
        cwd=ROOT,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.split() == [b"ein", rb"B\xe4r,", rb"Gr\xf6\xdfe", rb"3\xd74,", rb"\udcff"]


def test_a_path_that_no_disk_can_have_is_named(tmp_path):
    name = "x" * 300
    done = subprocess.run(
        [sys.executable, "model.py", f"dataset={name}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert name in done.stderr and "File name too long" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="Windows knows no SIGINT from another process")
@pytest.mark.parametrize("module", [b"torch.types", b"torch.nn."])
def test_ctrl_c_while_everything_is_imported_is_no_traceback(module):
    command = [sys.executable, "-X", "importtime", "model.py"]
    script = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, preexec_fn=hear_ctrl_c)
    for line in script.stderr:  # a line for each module that was imported
        if module in line:
            break
    script.send_signal(signal.SIGINT)
    try:
        rest = script.communicate(timeout=30)[1]
    finally:
        script.kill()
    assert script.returncode == 130
    assert b"Traceback" not in rest and rest.endswith(b"stopped\n")


def test_a_text_without_quotes_in_train_py_is_a_sentence(project):
    text = (project / "train.py").read_text(encoding="utf-8")
    text = text.replace('dataset = "streets"', "dataset = mine")
    (project / "train.py").write_text(text, encoding="utf-8")
    done = subprocess.run([sys.executable, "train.py"], cwd=project, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "of train.py: name 'mine' is not defined; a text stands between quotes" in done.stderr


def test_an_environment_inside_the_project_makes_no_script_of_its_programs(project):
    program = project / ".venv" / "lib" / "program.py"
    program.parent.mkdir(parents=True)
    lines = "import signal, sys\nsys.path.insert(0, sys.argv[1])\nimport toolbox\n"
    lines += "sys.exit(signal.getsignal(signal.SIGINT) is toolbox.stop_at_once)"
    program.write_text(lines)
    (project / "script.py").write_text(lines)
    for path, status in ((program, 0), (project / "script.py", 1)):
        done = subprocess.run([sys.executable, path, project], preexec_fn=hear_ctrl_c)
        assert done.returncode == status
