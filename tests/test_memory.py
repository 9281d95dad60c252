import subprocess
import sys

from toolbox import memory

import pytest

TOO_MUCH = """
import train, toolbox.machine, torch
from toolbox import memory, settings
memory.SHARE = 2 * 2**30 / memory.memory()  # as on a machine of two gigabytes
settings.run_script(vars(train), train.main)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the limit is Linux's")
def test_row_22_too_little_memory_on_a_cpu_is_a_sentence_and_not_a_kill(project):
    settings = ["batch_size=4096", "features=64", "precision=fp32", "device=cpu"]
    done = subprocess.run(
        [sys.executable, "-c", TOO_MUCH, *settings], cwd=project, capture_output=True, text=True
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "out of memory on cpu in fp32 with batch_size 4096" in done.stderr
    assert "try batch_size=2048 with accum_steps=2" in done.stderr


def test_a_container_may_have_less_memory_than_its_machine(tmp_path, monkeypatch):
    whole = memory.memory()
    monkeypatch.setattr(memory, "OWN_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    limit = tmp_path / "memory.max"
    limit.write_text("1000000000\n")
    assert memory.memory() == min(whole, 10**9)
    limit.write_text("max\n")
    assert memory.memory() >= whole > 0


@pytest.mark.parametrize(
    ("line", "limit"),
    [
        ("0::/system.slice/job", "system.slice/job/memory.max"),
        ("0::/system.slice/job", "system.slice/memory.max"),
        ("4:memory:/slurm/job_1", "memory/slurm/job_1/memory.limit_in_bytes"),
    ],
)
def test_a_job_may_have_less_memory_than_its_machine(line, limit, tmp_path, monkeypatch):
    whole = memory.memory()
    monkeypatch.setattr(memory, "OWN_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "GROUPS", tmp_path)
    (tmp_path / "cgroup").write_text(f"9:name=systemd:/\n{line}\n")
    assert memory.memory() >= whole > 0
    (tmp_path / limit).parent.mkdir(parents=True)
    (tmp_path / limit).write_text("1000000000\n")
    assert memory.memory() == min(whole, 10**9)
