from toolbox import files
from toolbox.errors import InputError

import pytest


def test_a_file_that_another_program_holds_for_a_moment_is_replaced_after_it(tmp_path, monkeypatch):
    real, refusals = files.os.replace, [PermissionError(13, "in use")] * 2

    def held(*paths):
        if refusals:
            raise refusals.pop()
        real(*paths)

    monkeypatch.setattr(files.os, "replace", held)
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    files.write_atomic(tmp_path / "a", lambda file: file.write(b"new"))
    assert (tmp_path / "a").read_bytes() == b"new" and not refusals
    refusals += [PermissionError(13, "in use")] * 4
    with pytest.raises(
        InputError, match="a can't be written .in use.; what was there before is as it was"
    ):
        files.write_atomic(tmp_path / "a", lambda file: file.write(b"newer"))
    assert (tmp_path / "a").read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1


def test_row_15_a_failed_write_leaves_the_previous_file(tmp_path, monkeypatch):
    path = tmp_path / "x.pth"
    files.write_atomic(path, lambda file: file.write(b"old"))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    said = "x.pth can't be written .No space left on device.; what was there before is as it was"
    said += ".* training that had begun goes on with resume=true"
    with pytest.raises(InputError, match=said):
        files.write_atomic(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]
