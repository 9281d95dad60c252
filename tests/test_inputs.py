"""What inference.py is pointed at: folders, files, several of both, and all that lies in them."""

import csv
import os
import random
import socket
import subprocess
import sys
import time
import unicodedata
from pathlib import Path

from toolbox import colouring
from toolbox.colouring import Colouring
from toolbox.errors import InputError
from toolbox.outputs import Job, name_outputs
from toolbox.pictures import read_note, save_picture

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from test_inference import make_place, save
from trying import snapshot

import inference
import utils

TABLES = {"predictions.csv", "index.html"}  # beside what is left of each picture


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    return make_place(tmp_path, monkeypatch)


def draw(path: Path, seed: int = 0, size: tuple[int, int] = (12, 10), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    Image.fromarray(noise).save(path, **options)
    return path


def run(monkeypatch, **settings) -> int:
    for name, value in settings.items():
        monkeypatch.setattr(inference, name, value)
    return inference.main()


def table(folder: Path) -> list[str]:
    with open(folder / "predictions.csv", newline="", encoding="utf-8") as file:
        return [row["file"] for row in csv.DictReader(file)]


def written(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# ---- what input_dir may be ----


def test_input_dir_may_be_a_picture(place, monkeypatch):
    draw(place.parent / "photo.png")
    assert run(monkeypatch, input_dir="photo.png", overlay=False) == 0
    assert written(place / "TestPredictions") == {"photo.png", *TABLES}
    assert table(place / "TestPredictions") == ["photo.png"]


def test_several_paths_never_share_an_output(place, monkeypatch):
    for seed, name in enumerate(("x/a.png", "y/a.png", "f/a.png", "f/b.png", "A.jpg")):
        draw(place.parent / name, seed)
    before = snapshot(place.parent)
    again = (str(place.parent / "x" / "a.png"), "f/../f/b.png")
    given = ("x/a.png", "f", "y/a.png", "A.jpg", *again)
    assert run(monkeypatch, input_dir=given, output_dir="out", overlay=False) == 0
    assert table(Path("out")) == ["x/a.png", "f/a.png", "b.png", "y/a.png", "A.jpg"]
    masks = written(Path("out")) - TABLES
    assert len(masks) == 5 and len({name.lower() for name in masks}) == 5
    assert before.items() <= snapshot(place.parent).items()


def test_two_pictures_of_one_place_size_and_time_are_told_apart(place, monkeypatch):
    """Bitmaps out of an archive: only their folders differ."""
    for seed, name in enumerate(("x/a.bmp", "y/a.bmp")):
        os.utime(draw(place.parent / name, seed), (1e9, 1e9))
    told = []
    for given in (("x/a.bmp", "y/a.bmp"), ("y/a.bmp", "x/a.bmp")):
        assert run(monkeypatch, input_dir=given, output_dir="out", overlay=False) == 0
        masks = [np.array(Image.open(f"out/{name}")) for name in ("a.bmp.png", "a.bmp_.png")]
        told.append(masks)
    assert np.array_equal(told[0][0], told[1][1]) and np.array_equal(told[0][1], told[1][0])
    assert not np.array_equal(*told[0])


@pytest.mark.parametrize("given", ["nowhere.png", ("f", "nowhere")])
def test_a_path_to_nothing_is_named(place, monkeypatch, given):
    draw(place.parent / "f" / "a.png")
    with pytest.raises(InputError, match="nowhere.* is not there; make it and put pictures into"):
        run(monkeypatch, input_dir=given)


def test_a_picture_is_never_written_over_by_its_own_mask(place, monkeypatch):
    """Also where it is a mask that inference.py made before."""
    photo = draw(place.parent / "photo.png")
    before = photo.read_bytes()
    Path("link").symlink_to(".")
    for output_dir in (".", "link"):
        with pytest.raises(InputError, match="photo.png would be written over"):
            run(monkeypatch, input_dir="photo.png", output_dir=output_dir)
    assert photo.read_bytes() == before
    assert run(monkeypatch, output_dir="out", overlay=False) == 0
    before = Path("out/photo.png").read_bytes()
    with pytest.raises(InputError, match="out/photo.png would be written over"):
        run(monkeypatch, input_dir="out/photo.png")
    assert Path("out/photo.png").read_bytes() == before


# ---- what lies in a folder ----


def test_what_is_no_file_is_named_and_never_opened(place, monkeypatch, capsys):
    save(place, "a.png")
    inputs = place / "TestImages"
    os.mkfifo(inputs / "pipe.png")
    (inputs / "device.png").symlink_to("/dev/zero")
    (inputs / "nothing.png").symlink_to("gone.png")
    (inputs / "good.png").symlink_to("a.png")
    plug = socket.socket(socket.AF_UNIX)
    monkeypatch.chdir(inputs)
    plug.bind("socket.png")
    monkeypatch.chdir(place.parent)
    assert inference.main() == 1
    plug.close()
    said = capsys.readouterr()
    for name in ("pipe", "device", "socket"):
        words = f"{name}.png is no file but a pipe, a socket or a device; take it out"
        assert said.err.count(words) == 1
    assert "nothing.png can't be read (No such file or directory)" in said.err
    assert "2 of 6 pictures coloured, 4 could not be" in said.out
    assert table(place / "TestPredictions") == ["a.png", "good.png"]


def test_a_pipe_that_is_named_or_lies_where_an_output_goes_is_not_waited_for(place, monkeypatch):
    os.mkfifo("pipe")
    assert run(monkeypatch, input_dir="pipe") == 1
    save(place, "a.png")
    monkeypatch.setattr(inference, "input_dir", str(place / "TestImages"))
    for name in ("a.png", "a_overlay.png", "predictions.csv"):
        out = place.parent / f"out-{name}"
        out.mkdir()
        os.mkfifo(out / name)
        with pytest.raises(InputError, match=f"{name} would be written over"):
            run(monkeypatch, output_dir=str(out))


def test_folders_are_passed_over_with_a_count_and_a_way_to_have_them(place, capsys):
    save(place, "a.png")
    for name in ("one", "two", "three", "four", ".hidden"):
        draw(place / "TestImages" / name / "b.png")
    assert inference.main() == 0
    said = capsys.readouterr()
    words = "passed over: 4 folder(s) (four, one, three and 1 more); recursive=true takes what is"
    assert words in said.out and "1 of 1 pictures coloured" in said.out
    Path(place, "TestImages", "a.png").unlink()
    with pytest.raises(InputError, match=r"no pictures in .*\npassed over: 4 folder"):
        inference.main()


def test_recursive_walks_the_tree_and_keeps_it(place, monkeypatch, capsys):
    inputs = place / "TestImages"
    for seed, name in enumerate(("a.png", "sub/a.jpg", "sub/deep/b.png", ".git/c.png", "d/.e.png")):
        draw(inputs / name, seed)
    draw(place.parent / "elsewhere" / "far.png")
    (inputs / "circle").symlink_to(".")
    (inputs / "linked").symlink_to(place.parent / "elsewhere")
    before = snapshot(inputs)
    assert run(monkeypatch, recursive=True, overlay=False) == 0
    said = capsys.readouterr().out
    assert "passed over: 2 link(s) to folders (circle, linked)" in said
    assert "3 of 3 pictures coloured" in said
    rows = ["a.png", "sub/a.jpg", "sub/deep/b.png"]
    assert table(place / "TestPredictions") == rows
    masks = {"a.png", "sub/a.png", "sub/deep/b.png", *TABLES}
    assert written(place / "TestPredictions") == masks
    assert snapshot(inputs) == before
    assert inference.main() == 0
    assert "3 of them before" in capsys.readouterr().out


@pytest.mark.parametrize("linked", [False, True])
def test_the_output_folder_inside_the_input_is_passed_over(place, monkeypatch, capsys, linked):
    inputs, output_dir = place / "TestImages", "InferenceOutput/TestImages/sub/out"
    draw(inputs / "a.png")
    draw(inputs / "sub" / "b.png")
    if linked:
        Path(output_dir).mkdir()
        Path("link").symlink_to(output_dir)
        output_dir = "link"
    for _ in range(2):
        assert run(monkeypatch, output_dir=output_dir, recursive=True, overlay=False) == 0
        assert "2 of 2 pictures coloured" in capsys.readouterr().out
    assert written(inputs / "sub" / "out") == {"a.png", "sub/b.png", *TABLES}
    inside = {"input_dir": str(inputs / "sub"), "recursive": False}
    assert run(monkeypatch, output_dir=str(inputs / "sub" / "out"), **inside) == 0
    assert "passed over" not in capsys.readouterr().out
    with pytest.raises(InputError, match="as input_dir is"):
        run(monkeypatch, input_dir=("InferenceOutput", output_dir))


def test_a_deep_tree_is_walked(place, monkeypatch, capsys):
    draw(place / "TestImages" / "a.png")
    monkeypatch.chdir(place / "TestImages")
    for _ in range(200):
        os.mkdir("d")
        os.chdir("d")
    draw(Path("b.png"))
    monkeypatch.chdir(place.parent)
    status = run(monkeypatch, recursive=True, overlay=False)
    said = capsys.readouterr()
    assert status == 0 and "2 of 2 pictures coloured" in said.out, said.err


def test_a_closed_folder_in_the_tree_is_named_and_the_others_go_on(place, monkeypatch, capsys):
    for name in ("a.png", "closed/b.png", "open/c.png"):
        draw(place / "TestImages" / name)
    real = Path.iterdir

    def iterdir(folder):
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return real(folder)

    monkeypatch.setattr(Path, "iterdir", iterdir)
    assert run(monkeypatch, recursive=True) == 1
    said = capsys.readouterr()
    assert "closed can't be read (Permission denied)" in said.err
    assert "2 of 3 pictures coloured, 1 could not be" in said.out


BESIDE = ("notes.txt", "t.csv", "l.json", "z.ZIP", "film.mp4", "best.pth", "scan.pdf", "a.b.c")


def test_files_that_were_never_pictures_are_passed_over_with_a_count(place, capsys):
    save(place, "a.png")
    for name in BESIDE:
        (place / "TestImages" / name).write_bytes(b"something else")
    (place / "TestImages" / "a.txt").write_bytes(b"0 0.5 0.5 0.1 0.1")  # its boxes, say
    assert inference.main() == 0
    said = capsys.readouterr()
    words = "being no pictures: 9 file(s) (a.b.c, a.txt, best.pth and 6 more)"
    assert words in said.out and "can't be read" not in said.err
    assert "1 of 1 pictures coloured;" in said.out
    assert (place / "TestPredictions" / "a.png").exists()  # a.txt has not taken its name


BAD = (
    "bad.png",
    "bad.JPG",
    "bad.tiff",
    "phone.heic",
    "camera.cr2",
    "nameless",
    "dotted.",
    "-x.gif",
)


@pytest.mark.parametrize("name", BAD)
def test_a_file_that_says_it_is_a_picture_or_says_nothing_is_an_error(place, capsys, name):
    save(place, "a.png")
    (place / "TestImages" / name).write_bytes(b"torn")
    assert inference.main() == 1
    said = capsys.readouterr()
    assert f"{name} can't be read" in said.err and "1 of 2 pictures coloured, 1 could" in said.out


def test_a_picture_is_coloured_whatever_its_ending_says(place, capsys):
    draw(place / "TestImages" / "a.dat", format="PNG")
    draw(place / "TestImages" / "b.txt", format="JPEG")
    draw(place / "TestImages" / "nameless", format="GIF")
    assert inference.main() == 0
    assert table(place / "TestPredictions") == ["a.dat", "b.txt", "nameless"]


def test_a_folder_without_any_picture_ends_in_a_sentence_and_writes_nothing(place, monkeypatch):
    for name in BESIDE:
        (place / "TestImages" / name).write_bytes(b"something else")
    with pytest.raises(InputError, match=r"(?s)no pictures in .*TestImages; put some.*8 file\(s\)"):
        run(monkeypatch, output_dir="out")
    assert not Path("out").exists()


def test_a_file_that_the_user_names_is_never_passed_over(place, monkeypatch, capsys):
    Path("notes.txt").write_text("no picture")
    save(place, "a.png")
    assert inference.main() == 0
    assert run(monkeypatch, input_dir="notes.txt") == 1
    assert "notes.txt can't be read as a picture" in capsys.readouterr().err
    assert table(place / "TestPredictions") == ["a.png"]  # nothing newer is known


# ---- frames ----


def frames(path: Path, count: int, **options) -> None:
    pictures = [Image.new("RGB", (12, 10), (40 * i, 90, 200 - 40 * i)) for i in range(count)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], **options)


def test_of_several_frames_it_is_said_that_only_the_first_was_coloured(place, capsys):
    inputs = place / "TestImages"
    for name, count in (("a.gif", 4), ("b.webp", 2), ("c.png", 3), ("d.tiff", 2)):
        frames(inputs / name, count)
    frames(inputs / "preview.jpg", 2, format="MPO")
    frames(inputs / "still.gif", 1)
    draw(inputs / "still.png")
    assert inference.main() == 0
    out = capsys.readouterr().out
    words = "a.gif (4 frames), b.webp (2 frames), c.png (3 frames) and 1 more"
    assert f"only the first frame was coloured of {words}" in out


def test_of_one_frame_nothing_is_said(place, capsys):
    draw(place / "TestImages" / "still.gif")
    frames(place / "TestImages" / "preview.jpg", 2, format="MPO")
    assert inference.main() == 0 and "frame" not in capsys.readouterr().out


# ---- batches ----


def group(count: int, size: tuple, pixels: int, batch_size: int, **constants) -> list[int]:
    one = object.__new__(Colouring)
    one.constants = {"batch_size": batch_size}
    one.outputs = type("", (), {"uncertainty": False})()
    jobs = [Job(Path(str(i)), str(i), "k", pixels, size) for i in range(count)]
    groups = one.group(jobs)
    assert [job for part in groups for job in part] == jobs
    return [len(part) for part in groups]


def test_a_batch_is_what_batch_size_memory_and_the_net_allow():
    huge = 2**31
    assert group(20, (512, 1024), 10, batch_size=8) == [8, 8, 4]
    assert group(40, (512, 1024), 10, batch_size=huge) == [16, 16, 8]
    assert group(3, (4096, 4096), 10, batch_size=huge) == [1, 1, 1]
    assert group(5, (8, 8), colouring.AT_ONCE // 2, batch_size=huge) == [2, 2, 1]


def test_grouping_a_hundred_thousand_pictures_takes_no_time():
    began = time.process_time()
    assert sum(group(100_000, (1, 1), 1, batch_size=2**31)) == 100_000
    assert time.process_time() - began < 60


def test_a_batch_of_any_size_is_coloured(place, monkeypatch, capsys):
    for i in range(20):
        draw(place / "TestImages" / f"{i}.png", i)
    assert run(monkeypatch, batch_size=2**16) == 0
    assert "20 of 20" in capsys.readouterr().out


# ---- names ----

ODD_NAMES = [
    "new\nline.png",
    "-rf.png",
    "dotted..png",
    " .png",
    "~.png",
    "a,b;c'\".png",
    "%s{0}.png",
]
ODD_NAMES += ["Ünïcödé.png", "🚗.png", "=1+1.png", os.fsdecode(b"\xff\xfe.png"), "con.png", "a.PNG"]


def test_odd_names_are_coloured_and_listed(place, monkeypatch, capsys):
    for seed, name in enumerate(ODD_NAMES):
        draw(place / "TestImages" / name, seed)
    assert run(monkeypatch, overlay=False) == 0
    assert len(written(place / "TestPredictions")) == len(ODD_NAMES) + len(TABLES)
    listed = set(table(place / "TestPredictions"))
    assert listed == {name.encode(errors="backslashreplace").decode() for name in ODD_NAMES}
    assert inference.main() == 0  # its own table, with such names, is known again
    assert f"{len(ODD_NAMES)} of them before" in capsys.readouterr().out


def test_odd_names_that_cannot_be_read_are_printed(place):
    """To a terminal of any alphabet."""
    for name in ODD_NAMES:
        (place / "TestImages" / name).write_bytes(b"torn")
    for encoding in ("utf-8", "ascii"):
        done = subprocess.run(
            [sys.executable, ROOT / "inference.py", "device=cpu"],
            cwd=place.parent,
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": encoding},
        )
        assert done.returncode == 1 and b"Traceback" not in done.stderr, done.stderr
        assert done.stderr.count(b"can't be read as a picture") == len(ODD_NAMES)


def test_a_class_with_a_line_break_does_not_make_the_table_a_strangers(place):
    saved = utils.load_checkpoint(Path("unet_model.pth"))
    saved["classes"][0]["name"] = "gro\nund, $\\frac$"
    utils.save_checkpoint(Path("unet_model.pth"), saved)
    save(place, "a.png")
    for _ in range(2):
        assert inference.main() == 0


def test_a_thousand_trees_of_names_never_meet():
    chance = random.Random(0)
    parts = ("a", "A", "a.png", "a_overlay", "a_overlay.png", "é", "e\u0301", "a_", "b.", "a.jpg")
    for _ in range(1000):
        tree = {"/".join(chance.choices(parts, k=chance.randint(1, 3))) for _ in range(8)}
        tree = [name for name in tree if not any(other.startswith(f"{name}/") for other in tree)]
        places = {Path("in", str(i)): Path(name) for i, name in enumerate(tree)}
        places |= {Path("again", str(i)): Path(name) for i, name in enumerate(tree[:2])}
        names = name_outputs(places)
        ends = (".png", "_overlay.png", "_uncertainty.png")
        outputs = [f"{name}{end}" for name in names.values() for end in ends]
        plain = {one_for_all_disks(name) for name in outputs}
        assert len(plain) == 3 * len(places)
        folders = {one_for_all_disks(parent) for name in outputs for parent in Path(name).parents}
        assert not plain & folders


def one_for_all_disks(name: Path | str) -> str:
    return unicodedata.normalize("NFC", str(name)).casefold()


# ---- what happens meanwhile, and where it goes ----


@pytest.mark.parametrize("what", ["deleted", "torn", "replaced"])
def test_a_picture_that_changes_while_it_is_read_costs_only_itself(
    place, monkeypatch, capsys, what
):
    for name in ("a.png", "b.png", "c.png"):
        save(place, name)
    real = Colouring.read

    def read(self, job):
        if job.path.name == "b.png":
            job.path.unlink()
            if what == "torn":
                job.path.write_bytes(b"torn")
            elif what == "replaced":
                draw(job.path, size=(50, 7))
        return real(self, job)

    monkeypatch.setattr(Colouring, "read", read)
    is_well = what == "replaced"
    assert inference.main() == (0 if is_well else 1)
    said = capsys.readouterr()
    if is_well:
        with Image.open(place / "TestPredictions" / "b.png") as mask:
            assert mask.size == (50, 7)
        monkeypatch.setattr(Colouring, "read", real)
        assert inference.main() == 0 and "2 of them before" in capsys.readouterr().out
    else:
        assert "b.png can't be read as a picture" in said.err and "2 of 3" in said.out


@pytest.mark.parametrize("kind", ["file", "link", "closed", "a name too long"])
def test_an_output_dir_that_cannot_be_written_is_said_before_anything_is_coloured(
    place, monkeypatch, kind
):
    save(place, "a.png")
    monkeypatch.setattr(inference, "predict", None)
    out, sentence = place.parent / "out", "out is no folder"
    if kind == "file":
        out.write_text("mine")
    elif kind == "link":
        out.symlink_to("nothing")
    elif kind == "closed":

        def closed(**_):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("tempfile.TemporaryFile", closed)
        sentence = "out can't be written .Permission denied"
    else:
        out, sentence = out.with_name("o" * 300), "can't be written .File name too long"
    with pytest.raises(InputError, match=sentence):
        run(monkeypatch, output_dir=str(out))
    assert kind != "file" or out.read_text() == "mine"


@pytest.mark.parametrize("name", ["a.png", "a_overlay.png", "sub", "predictions.csv", "sub/b.png"])
@pytest.mark.parametrize("kind", ["folder", "link", "file"])
def test_what_lies_where_an_output_goes_is_named_and_stays(place, monkeypatch, name, kind):
    draw(place / "TestImages" / "a.png")
    draw(place / "TestImages" / "sub" / "b.png")
    if kind == "folder" and name == "sub":
        return
    lies = place / "TestPredictions" / name
    lies.parent.mkdir(parents=True)
    {"folder": lies.mkdir, "link": lambda: lies.symlink_to("gone"), "file": lies.touch}[kind]()
    before = snapshot(place)
    with pytest.raises(InputError, match=f"TestPredictions/{name}.* would be written over"):
        run(monkeypatch, recursive=True)
    assert snapshot(place) == before


def test_a_folder_beside_a_mask_of_ours_is_named_too(place):
    save(place, "a.png")
    assert inference.main() == 0
    overlay = place / "TestPredictions" / "a_overlay.png"
    overlay.unlink()
    overlay.mkdir()
    with pytest.raises(InputError, match="a_overlay.png would be written over"):
        inference.main()


def test_a_mask_whose_note_another_program_wrote_anew_is_coloured_again(place, capsys):
    save(place, "a.png")
    assert inference.main() == 0
    mask = place / "TestPredictions" / "a.png"
    key = read_note(mask, "key")
    for note in ("", "torn", "[1]", "3"):
        save_picture(mask, np.zeros((10, 10, 3), np.uint8), key=key, note=note)
        assert inference.main() == 0
        assert "before" not in capsys.readouterr().out.splitlines()[-1]


def test_two_at_once_in_one_output_dir_end_well(place):
    for i in range(12):
        draw(place / "TestImages" / f"{i}.png", i, size=(200, 150))
    command = [
        sys.executable,
        ROOT / "inference.py",
        "device=cpu",
        "batch_size=1",
        "overwrite=true",
    ]
    both = [
        subprocess.Popen(command, cwd=place.parent, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for one in both:
        _, errors = one.communicate(timeout=120)
        assert one.returncode == 0, errors
    masks = written(place / "TestPredictions")
    assert len(masks) == 26 and not any(name.endswith(".tmp") for name in masks)
    for name in masks - TABLES:
        with Image.open(place / "TestPredictions" / name) as picture:
            picture.load()
    assert len(table(place / "TestPredictions")) == 12
