"""dataset=FILE.zip: unpacked once beside it, whole or not at all, and never outside its folder."""

import os
import stat
import zipfile
from pathlib import Path

from toolbox import archives
from toolbox.archives import NOTE, unpacked
from toolbox.arguments import override
from toolbox.errors import InputError
from toolbox.sources import open_source

import pytest
from conftest import draw_squares
from trying import in_child, snapshot

from dataset import prepare


def pack(archive: Path, names: dict, **options) -> Path:
    """An archive with these names and contents, in their order."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, **options) as file:
        for name, content in names.items():
            file.writestr(name, content)
    return archive


def pack_folder(folder: Path, archive: Path, top: str = "") -> Path:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    names = {f"{top}{path.relative_to(folder).as_posix()}": path.read_bytes() for path in paths}
    return pack(archive, names)


@pytest.fixture
def mine(tmp_path) -> Path:
    """Squares, packed in mine.zip."""
    return pack_folder(draw_squares(tmp_path / "own", 6), tmp_path / "mine.zip")


def refused(archive: Path) -> str:
    """What is said, while nothing is left beside the archive."""
    before = snapshot(archive.parent)
    with pytest.raises(InputError) as caught:
        unpacked(archive)
    assert snapshot(archive.parent) == before
    return str(caught.value)


def test_a_zip_is_a_data_set_and_unpacked_once(mine, tmp_path, capsys):
    data = prepare(str(mine), "", (16, 16))
    assert len(data.pairs) == 6 and data.table.names == ["ground", "red", "blue"]
    assert f"{mine} is unpacked into {tmp_path / 'mine'}, 13 files" in capsys.readouterr().out
    (tmp_path / "mine" / "classes.csv").unlink()  # what the user changes there, stays
    before = snapshot(tmp_path / "mine")
    with pytest.raises(InputError, match="others need"):
        prepare("mine.zip", str(tmp_path), (16, 16))  # by its name in data_dir
    assert snapshot(tmp_path / "mine") == before and not capsys.readouterr().out
    assert len(before) == len(list((tmp_path / "own").rglob("*"))) - 1 + 1  # no table, a note


def test_a_zip_given_as_a_path_is_the_dataset(mine):
    module = {"dataset": "streets", "seed": 0}
    override(module, [str(mine)])
    assert module["dataset"] == str(mine)
    with pytest.raises(InputError, match="classes.csv is no recipe"):
        override(module, [str(mine.parent / "own" / "classes.csv")])


@pytest.mark.parametrize("top", ["mine/", "a/b/c/", "My images/"])
def test_one_top_folder_is_gone_into(tmp_path, top):
    mine = pack_folder(draw_squares(tmp_path / "own", 4), tmp_path / "mine.zip", top)
    source = open_source(str(mine), "")
    assert source.root == tmp_path / "mine" / top and len(source.pairs) == 4


def test_a_top_folder_that_is_a_split_is_not_gone_into(tmp_path):
    mine = pack_folder(draw_squares(tmp_path / "own", 4), tmp_path / "mine.zip", "train/")
    source = open_source(str(mine), "")
    assert source.root == tmp_path / "mine" and {pair.split for pair in source.pairs} == {"train"}


def test_what_macs_and_file_managers_add_is_left_out(tmp_path):
    names = {"__MACOSX/images/._p.png": "x", "a/.DS_Store": "x", "a/Thumbs.db": "x", "a/._b": "x"}
    mine = pack(tmp_path / "mine.zip", {**names, "a/b.txt": "b", NOTE: "{}", "a/c/": ""})
    found = [path for path in unpacked(mine).rglob("*") if path.is_file()]
    assert sorted(path.name for path in found) == [NOTE, "b.txt"]
    assert "holds no files" in refused(pack(tmp_path / "junk.zip", names))


# ---- what is never done ----


@pytest.mark.parametrize(
    "name", ["../out.png", "a/../../out.png", "/out.png", "C:\\out.png", "c:out.png", "..\\out.png"]
)
def test_no_entry_leads_out_of_the_folder(tmp_path, name):
    (tmp_path / "in").mkdir()
    said = refused(pack(tmp_path / "in" / "mine.zip", {"a.png": "a", name: "b"}))
    assert "leads out of its folder; nothing is unpacked" in said
    assert os.listdir(tmp_path) == ["in"]


@pytest.mark.parametrize("kind, what", [(stat.S_IFLNK, "a link"), (stat.S_IFIFO, "a device or a")])
def test_links_and_devices_are_not_unpacked(tmp_path, kind, what):
    link = zipfile.ZipInfo("images")
    link.external_attr = (kind | 0o777) << 16
    assert what in refused(pack(tmp_path / "mine.zip", {link: "/etc", "images/passwd": "x"}))


def test_one_name_twice_or_as_file_and_folder_is_a_sentence(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        mine = tmp_path / "mine.zip"
        with zipfile.ZipFile(mine, "w") as file:
            file.writestr("a.png", "a")
            file.writestr("a.png", "b")
    assert "holds 'a.png' twice" in refused(mine)
    assert "'a' as a file and as a folder" in refused(pack(mine, {"a": "x", "a/b/c": "y"}))


def test_an_archive_made_to_fill_the_disk_is_refused(tmp_path, monkeypatch):
    mine = pack(tmp_path / "mine.zip", {"a.bmp": bytes(1_000_000)})
    monkeypatch.setattr(archives, "SMALL", 100_000)
    assert "would grow" in refused(mine) and "made to fill a disk" in refused(mine)
    monkeypatch.setattr(archives, "MOST_PACKED", 10_000)
    monkeypatch.setattr(archives, "MOST_BYTES", 999_999)
    assert "holds 1 files of 0.0 GB; at most" in refused(mine)
    monkeypatch.setattr(archives, "MOST_BYTES", 1_000_000)
    monkeypatch.setattr(archives, "MOST_FILES", 0)
    assert "holds 1 files" in refused(mine)
    monkeypatch.setattr(archives, "MOST_FILES", 1)
    usage = archives.shutil.disk_usage(tmp_path)._replace(free=999_999)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda folder: usage)
    assert "left; make room, or move it to another disk" in refused(mine)
    monkeypatch.undo()
    assert (unpacked(mine) / "a.bmp").stat().st_size == 1_000_000


def test_a_size_that_is_understated_is_not_exceeded(tmp_path):
    """The limits are of the sizes that an archive states: no more is written than these."""
    mine = pack(tmp_path / "mine.zip", {"a.bmp": bytes(1_000_000)})
    content = mine.read_bytes()
    mine.write_bytes(content.replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    assert "can't be unpacked" in refused(mine)


def test_an_encrypted_archive_is_a_sentence(mine):
    content = bytearray(mine.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 8] |= 1
    mine.write_bytes(content)
    assert "is encrypted ('classes.csv'); unpack it by hand" in refused(mine)


def test_a_damaged_archive_is_a_sentence_wherever_it_is_damaged(mine):
    content = mine.read_bytes()
    for at in (0, 10, 60, len(content) // 2, len(content) - 200, len(content) - 10):
        mine.write_bytes(content[:at])
        assert "can't be unpacked (" in refused(mine) and "get or pack it anew" in refused(mine)
    at = content.index(b"PNG") + 40
    mine.write_bytes(content[:at] + bytes(8) + content[at + 8 :])
    assert "can't be unpacked (" in refused(mine)


# ---- names ----


def test_names_of_other_systems_are_read(tmp_path):
    mine = tmp_path / "mine.zip"
    pack(mine, {"images\\größe.png": "a", "masks/日本.png": "b"})
    folder = unpacked(mine)
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    assert found == {"images/größe.png", "masks/日本.png"}
    raw = "größe.png".encode()
    content = pack(tmp_path / "mac.zip", {"x" * len(raw): "a"}).read_bytes()
    (tmp_path / "mac.zip").write_bytes(content.replace(b"x" * len(raw), raw))  # without its flag
    assert (unpacked(tmp_path / "mac.zip") / "größe.png").exists()
    raw = "größe.png".encode("cp850")
    content = pack(tmp_path / "dos.zip", {"x" * len(raw): "a"}).read_bytes()
    (tmp_path / "dos.zip").write_bytes(content.replace(b"x" * len(raw), raw))
    assert (unpacked(tmp_path / "dos.zip") / "größe.png").exists()
    assert "can't be written (File name too long)" in refused(
        pack(tmp_path / "long.zip", {"x" * 300: "a"})
    )


# ---- what is there already ----


@pytest.mark.parametrize("kind", ["folder", "empty", "file", "link"])
def test_a_folder_of_that_name_that_is_somebody_elses_is_never_written_into(mine, kind):
    folder = mine.with_suffix("")
    if kind == "file":
        folder.write_text("mine")
    elif kind == "link":
        folder.symlink_to("nowhere")
    else:
        folder.mkdir()
    if kind == "folder":
        (folder / "a.txt").write_text("mine")
        (folder / NOTE).write_text("{")
    assert "is there already, and was not unpacked from" in refused(mine)


def test_a_zip_that_has_changed_since_is_said_and_nothing_is_touched(mine, tmp_path):
    folder = unpacked(mine)
    os.utime(mine, (0, 0))  # copied, say: its content is the same
    assert unpacked(mine) == folder
    pack_folder(draw_squares(tmp_path / "other", 6, seed=1), mine)
    said = refused(mine)
    assert "has changed since" in said and f"move {folder} away to have it unpacked anew" in said


# ---- accidents ----


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked and killed")
def test_a_kill_leaves_nothing_half_and_the_next_time_does_it(mine, tmp_path, monkeypatch):
    def killed(*_):
        (tmp_path / "reached").touch()
        os.kill(os.getpid(), 9)

    with monkeypatch.context() as patch:
        patch.setattr(archives.os, "rename", killed)
        os.waitpid(in_child(lambda: unpacked(mine) and 0, tmp_path / "log"), 0)
    assert (tmp_path / "reached").exists() and not (tmp_path / "mine").exists()
    (left,) = tmp_path.glob(".unfinished-zip-*")
    os.utime(left, (0, 0))  # a day later it is swept away
    assert len(list(unpacked(mine).rglob("*.png"))) == 12 and not left.exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is full")
def test_a_full_disk_is_a_sentence_and_leaves_nothing(mine, monkeypatch):
    def full(source, target, size):
        with open("/dev/full", "wb", buffering=0) as device:
            device.write(source.read(size))

    monkeypatch.setattr(archives.shutil, "copyfileobj", full)
    said = refused(mine)
    assert "mine can't be written (No space left on device)" in said and "Make room" in said


def test_two_that_unpack_at_once_both_have_it(mine, monkeypatch):
    write = archives.write_entries

    def overtaken(*arguments):
        monkeypatch.setattr(archives, "write_entries", write)
        unpacked(mine)
        write(*arguments)

    monkeypatch.setattr(archives, "write_entries", overtaken)
    assert len(list(unpacked(mine).rglob("*.png"))) == 12
    assert not list(mine.parent.glob(".unfinished-*"))


def test_other_files_are_no_data_set(tmp_path):
    (tmp_path / "mine.rar").write_bytes(b"Rar!")
    with pytest.raises(InputError, match="mine.rar is a file; expected a folder, or a .zip of one"):
        open_source(str(tmp_path / "mine.rar"), "")
