"""The cache: what is read once is found again, follows changed files, and is whole or not there."""

import hashlib
import itertools
import os
import shutil
from pathlib import Path

from toolbox import cache
from toolbox.errors import InputError
from toolbox.masks import COLOR
from toolbox.sources.folder import Folder

import layouts
import numpy as np
import pytest
from conftest import draw_squares
from PIL import Image

import dataset
from dataset import prepare


def test_the_cache_equals_reading_and_follows_changed_files(tmp_path):
    folder = draw_squares(tmp_path / "own", 4, size=(24, 40))
    cached, plain = (
        prepare(str(folder), "", (16, 16)),
        prepare(str(folder), "", (16, 16), cache=False),
    )
    assert cached.cache and not plain.cache
    for row in range(4):
        assert all(np.array_equal(a, b) for a, b in zip(cached.read(row), plain.read(row)))
    assert cached.scale() == pytest.approx((16 * 16 / (24 * 40)) ** 0.5)
    draw_squares(folder, 4, size=(24, 40), seed=1)
    os.utime(folder / "images" / "p0.png", (1, 1))
    fresh = prepare(str(folder), "", (16, 16))
    assert not np.array_equal(fresh.read(0)[0], cached.read(0)[0]) or fresh.cache != cached.cache
    assert np.array_equal(
        fresh.read(0)[0], prepare(str(folder), "", (16, 16), cache=False).read(0)[0]
    )
    assert len(list(cache.CACHE.glob("own-16x16-kept-*"))) == 1  # the outdated one is gone


@pytest.mark.parametrize(
    "name, damage",
    [
        ("images", "cut"),
        ("masks", "gone"),
        ("sizes", "cut"),
        ("pixels", "empty"),
        ("digests", "gone"),
    ],
)
def test_a_damaged_cache_is_made_anew(tmp_path, name, damage):
    folder = draw_squares(tmp_path / "own", 4)
    first = prepare(str(folder), "", (16, 16))
    file, whole = first.cache / f"{name}.npy", (first.cache / f"{name}.npy").read_bytes()
    cache.open_array.cache_clear()
    file.unlink() if damage == "gone" else file.write_bytes(
        whole[: len(whole) // 2] if damage == "cut" else b""
    )
    second = prepare(str(folder), "", (16, 16))
    assert file.read_bytes() == whole and second.fingerprint() == first.fingerprint()


def test_runs_that_fill_one_cache_at_once_all_go_on(tmp_path, monkeypatch):
    folder = draw_squares(tmp_path / "own", 4)
    expected = prepare(str(folder), "", (16, 16)).read(0)
    rename, raced = Path.rename, []

    def be_second(source, target):
        """Between another run's look at the disk and its renaming, ours has put all in place."""
        if not raced:
            raced.append(shutil.copytree(source, target))
        return rename(source, target)

    shutil.rmtree(cache.CACHE)
    cache.open_array.cache_clear()
    monkeypatch.setattr(Path, "rename", be_second)
    data = prepare(str(folder), "", (16, 16))
    assert raced and all(np.array_equal(a, b) for a, b in zip(data.read(0), expected))
    assert list(cache.CACHE.glob("*16x16*")) == [data.cache]
    assert not list(cache.CACHE.glob(".unfinished*"))


def test_a_damaged_cache_that_another_run_takes_away_at_once_is_made_anew(tmp_path, monkeypatch):
    folder = draw_squares(tmp_path / "own", 4)
    first = prepare(str(folder), "", (16, 16))
    expected = first.read(0)
    (first.cache / "masks.npy").write_bytes(b"")
    cache.open_array.cache_clear()
    rename, taken = Path.rename, []

    def be_late(source, target):
        if source == first.cache:
            taken.append(shutil.rmtree(source))
        return rename(source, target)

    monkeypatch.setattr(Path, "rename", be_late)
    data = prepare(str(folder), "", (16, 16))
    assert taken and all(np.array_equal(a, b) for a, b in zip(data.read(0), expected))


def test_a_disk_without_room_for_the_cache_ends_in_a_sentence_and_leaves_nothing(
    tmp_path, monkeypatch
):
    folder = draw_squares(tmp_path / "own", 4)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(
        InputError, match="cache can't be written .No space left on device.;.* Make room"
    ):
        prepare(str(folder), "", (16, 16))
    assert not list(cache.CACHE.iterdir())


def test_what_a_killed_process_left_is_swept_a_day_later_and_not_before(tmp_path):
    folder = draw_squares(tmp_path / "own", 4)
    old, new = ".unfinished-cache-abcdefgh", ".unfinished-cache-12345678"
    foreign = {".unfinished-mine", ".unfinished-streets-abcdefgh", ".unfinished-cache-my_own_work"}
    for name in (old, new, *foreign):
        (cache.CACHE / name).mkdir(parents=True)
        if name != new:
            os.utime(cache.CACHE / name, (1e9, 1e9))
    prepare(str(folder), "", (16, 16))
    assert {path.name for path in cache.CACHE.glob(".*")} == {new, *foreign}


def test_a_copy_that_somebody_keeps_of_a_cache_stays(tmp_path):
    folder = draw_squares(tmp_path / "own", 4)
    prepare(str(folder), "", (16, 16))
    (first,) = cache.CACHE.glob("own-16x16-*")
    copy = first.with_name(f"{first.name.rpartition('-')[0]}-before")
    shutil.copytree(first, copy)
    draw_squares(folder, 4, seed=1)
    prepare(str(folder), "", (16, 16))
    assert copy.exists() and not first.exists() and len(list(cache.CACHE.glob("own-*"))) == 2


def test_unchanged_files_are_not_read_again(tmp_path, monkeypatch):
    folder = draw_squares(tmp_path / "own", 3)
    prepare(str(folder), "", (16, 16))
    monkeypatch.setattr(dataset, "read_pair", None)
    prepare(str(folder), "", (16, 16))


def test_the_values_of_masks_without_a_table_are_remembered_for_unchanged_files(
    tmp_path, monkeypatch
):
    folder = draw_squares(tmp_path / "own", 4, table=False)
    for path in (folder / "masks").iterdir():
        Image.fromarray(np.resize(np.array([0, 255], np.uint8), (16, 16))).save(path)
    first = prepare(str(folder), "", (16, 16))
    monkeypatch.setattr(Folder, "count_values", None)
    monkeypatch.setattr(dataset, "read_pair", None)
    assert prepare(str(folder), "", (16, 16)).table == first.table


def name_of_before(root: Path, meaning: dict, pairs: list) -> str:
    """The folder of a cache as the project named it when dataset.py was one file."""

    def letters(*parts) -> str:
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

    files = []
    for path in itertools.chain(*pairs):
        facts = path.stat()
        files.append((str(path.resolve()), facts.st_size, facts.st_mtime_ns))
    origin = letters(str(root.resolve()), meaning)
    checked = letters("palettes, pages, ranges", ("sizes", "pixels", "digests"), files)
    return f"{root.name}-16x16-kept-{origin}-{checked}"


def pairs_in(images: Path, masks: Path) -> list[tuple[Path, Path]]:
    return [(path, masks / path.name) for path in sorted(images.iterdir())]


def test_a_cache_made_before_is_found_again(tmp_path):
    """A class table's meaning stands in the name with its order."""
    squares = draw_squares(tmp_path / "squares", 4)
    data = prepare(str(squares), "", (16, 16))
    meaning = {255: 255, 0: 0, 1: 1, 2: 2, COLOR: 0, COLOR | 0xFF0000: 1, COLOR | 0x0000FF: 2}
    pairs = pairs_in(squares / "images", squares / "masks")
    assert data.cache.name == name_of_before(squares, meaning, pairs)

    binary = draw_squares(tmp_path / "binary", 4, table=False)
    for path in (binary / "masks").iterdir():
        Image.fromarray(np.resize(np.array([0, 255], np.uint8), (16, 16))).save(path)
    data = prepare(str(binary), "", (16, 16))
    pairs = pairs_in(binary / "images", binary / "masks")
    assert data.cache.name == name_of_before(binary, {0: 0, 255: 1}, pairs)

    camvid = layouts.make_camvid(tmp_path / "camvid")
    data = prepare("camvid", str(tmp_path), (16, 16))
    pairs = []
    for split in ("train", "val", "test"):
        pairs += pairs_in(camvid / split, camvid / f"{split}annot")
    meaning = {**{i: i for i in range(11)}, 11: 255}
    assert data.cache.name == name_of_before(camvid, meaning, pairs)
