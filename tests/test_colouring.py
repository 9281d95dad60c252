"""Many pictures: their files never meet, nothing foreign is written over, memory, and what was done
before."""

import hashlib
import io
import subprocess
import sys
from pathlib import Path

from toolbox import colouring
from toolbox.colouring import Colouring
from toolbox.errors import InputError
from toolbox.outputs import name_outputs

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from test_inference import make_place, save

import inference
import utils


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    return make_place(tmp_path, monkeypatch)


def test_row_28_inputs_stay_and_nothing_shares_an_output(place, capsys):
    for name in ("cat.jpg", "cat.png", "Cat.gif", "cat_overlay.png", "dog.png"):
        save(place, name)
    before = {
        path: hashlib.sha256(path.read_bytes()).digest()
        for path in (place / "TestImages").iterdir()
    }
    (place / "TestPredictions").mkdir()
    (place / "TestPredictions" / "earlier.png").write_bytes(b"kept")
    assert inference.main() == 0
    assert before == {
        path: hashlib.sha256(path.read_bytes()).digest()
        for path in (place / "TestImages").iterdir()
    }
    written = sorted(path.name for path in (place / "TestPredictions").iterdir())
    assert (
        len([name for name in written if name.endswith(".png")]) == 2 * 5 + 1
        and "dog.png" in written
        and "earlier.png" in written
    )


def test_row_28_files_that_inference_has_not_written_are_never_written_over(place, monkeypatch):
    save(place, "a.png")
    (place / "TestPredictions").mkdir()
    monkeypatch.setattr(inference, "uncertainty_passes", 1)
    for name in ("a.png", "a_overlay.png", "predictions.csv", "uncertainty.csv"):
        by_hand = place / "TestPredictions" / name
        by_hand.write_bytes((place / "TestImages" / "a.png").read_bytes())
        monkeypatch.setattr(inference, "overwrite", True)
        with pytest.raises(
            InputError, match=f"{name} would be written over and is not from inference.py"
        ):
            inference.main()
        assert by_hand.read_bytes() == (place / "TestImages" / "a.png").read_bytes()
        by_hand.unlink()
    assert inference.main() == 0 and inference.main() == 0


def test_a_name_too_long_for_what_is_added_to_it_is_named_and_the_others_go_on(place, capsys):
    save(place, "a.png")
    save(place, f"{'b' * 245}.png")
    save(place, "c.png")
    assert inference.main() == 1
    said = capsys.readouterr()
    assert "bbb.png has too long a name" in said.err and "2 of 3" in said.out


def test_names_never_meet_whatever_the_pictures_are_called():
    files = [
        Path(name)
        for name in (
            "a.jpg",
            "a.png",
            "a.jpg.png",
            "A.PNG",
            "a_overlay.png",
            "b.png",
            "b_overlay.jpg",
            "b_overlay_.jpg",
        )
    ]
    names = name_outputs({path: path for path in files})
    outputs = [
        f"{name}{end}".lower() for name in names.values() for end in (".png", "_overlay.png")
    ]
    assert len(set(outputs)) == 2 * len(files)


def test_a_bad_picture_is_named_and_the_others_go_on(place, capsys):
    save(place, "good.png")
    (place / "TestImages" / "bad.png").write_bytes(b"torn")
    (place / "TestImages" / "folder.png").mkdir()
    assert inference.main() == 1
    said = capsys.readouterr()
    assert "bad.png can't be read" in said.err and "1 of 2" in said.out
    assert "passed over: 1 folder(s) (folder.png); recursive=true takes" in said.out
    assert (place / "TestPredictions" / "good.png").exists()


def test_a_folder_that_is_missing_empty_or_the_same_is_named(place, monkeypatch):
    with pytest.raises(InputError, match="no pictures in"):
        inference.main()
    monkeypatch.setattr(inference, "output_dir", inference.input_dir)
    save(place, "a.png")
    with pytest.raises(InputError, match="as input_dir is"):
        inference.main()
    monkeypatch.setattr(inference, "input_dir", "nowhere")
    with pytest.raises(InputError, match="nowhere is not there"):
        inference.main()


def test_a_full_or_closed_output_folder_ends_in_a_sentence(place, monkeypatch):
    save(place, "a.png")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(
        InputError,
        match="a_overlay.png can't be written .No space left on device.; "
        "what was there before is as it was",
    ):
        inference.main()


def outputs(place: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (place / "TestPredictions").iterdir()}


@pytest.mark.parametrize("tile", [False, True])
def test_batches_and_threads_give_what_one_picture_at_a_time_gives(place, monkeypatch, tile):
    saved = utils.load_checkpoint(Path("unet_model.pth"))
    utils.save_checkpoint(Path("unet_model.pth"), {**saved, "scale": 0.7})
    monkeypatch.setattr(inference, "tile", tile)
    monkeypatch.setattr(inference, "overwrite", True)
    for i in range(9):
        save(place, f"{i}.png", size=[(30, 20), (20, 30), (300, 210)][i % 4 % 3])
    (place / "TestImages" / "torn.png").write_bytes(b"torn")
    found = []
    # In the last each picture is too big for company.
    for batch, at_once in ((4, 64_000_000), (1, 64_000_000), (4, 1000)):
        monkeypatch.setattr(inference, "batch_size", batch)
        monkeypatch.setattr(colouring, "AT_ONCE", at_once)
        assert inference.main() == 1
        found.append(outputs(place))
    assert len(found[0]) == 2 * 9 + 2 and found[0].keys() == found[1].keys() == found[2].keys()
    for name in (name for name in found[0] if name.endswith(".png")):
        pictures = [
            np.array(Image.open(io.BytesIO(files[name])).convert("RGB")).astype(int)
            for files in found
        ]
        assert (pictures[0] != pictures[1]).mean() < 1e-3 and (
            pictures[0] != pictures[2]
        ).mean() < 1e-3


def test_too_little_memory_for_a_batch_means_one_by_one_and_for_one_is_said(
    place, monkeypatch, capsys
):
    for i in range(3):
        save(place, f"{i}.png", size=(30, 20 + i))
    real, sizes = inference.predict, []

    def predict(model, shapes, small, where):
        sizes.append(len(small))
        if len(small) > 1 or shapes == [(21, 30)]:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return real(model, shapes, small, where)

    monkeypatch.setattr(inference, "predict", predict)
    assert inference.main() == 1
    said = capsys.readouterr()
    assert (
        sizes == [3, 1, 1, 1]
        and "1.png is too big for the memory of cpu" in said.err
        and "2 of 3 pictures coloured" in said.out
    )
    monkeypatch.setattr(inference, "predict", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        inference.main()


def test_what_was_coloured_before_is_left_until_picture_checkpoint_or_settings_change(
    place, monkeypatch, capsys
):
    for name in ("a.png", "b.png", "c.png"):
        save(place, name)
    real, done = Colouring.write, []

    def write(self, picture, found):
        done.append(picture.job.path.name)
        return real(self, picture, found)

    monkeypatch.setattr(Colouring, "write", write)

    def run(expected: str, **settings) -> None:
        for name, value in settings.items():
            monkeypatch.setattr(inference, name, value)
        done.clear()
        assert inference.main() == 0 and "".join(sorted(done)).replace(".png", "") == expected

    run("abc")
    first = outputs(place)
    run("")
    assert (
        outputs(place) == first
        and "3 of them before (overwrite=true does them again)" in capsys.readouterr().out
    )
    (place / "TestPredictions" / "a.png").unlink()
    (place / "TestPredictions" / "b_overlay.png").write_bytes(b"torn")
    (place / "TestPredictions" / "c_overlay.png").unlink()
    run("abc")
    save(place, "b.png", size=(31, 20))
    run("b")
    run("abc", overwrite=True)
    assert outputs(place).keys() == first.keys()
    run("abc", overwrite=False, uncertainty_passes=2)
    run("abc", uncertainty_passes=0, overlay=False)
    run("abc", overlay=True)
    run("abc", tta=True)
    run("abc", tta=False)
    saved = utils.load_checkpoint(Path("unet_model.pth"))
    saved["weights"]["head.bias"] += 1
    utils.save_checkpoint(Path("unet_model.pth"), saved)
    save(place, "d.png")
    capsys.readouterr()
    run("abcd")
    assert (
        "4 of 4 pictures coloured, 3 of them in place of earlier ones;" in capsys.readouterr().out
    )


@pytest.mark.skipif(
    sys.platform != "linux", reason="peak memory is counted in other units elsewhere"
)
def test_a_big_picture_takes_memory_for_itself_and_a_strip(place):
    """108 megapixels, decoded to 324 MB in numpy and 432 MB in Pillow; everything at once would
    take several times that."""
    save(place, "small.png")
    saved = utils.load_checkpoint(Path("unet_model.pth"))
    utils.save_checkpoint(Path("unet_model.pth"), {**saved, "scale": 0.5})

    def peak() -> float:
        code = (
            "import resource, sys; sys.path.insert(0, sys.argv[1]); import inference\n"
            "inference.tile, inference.device = True, 'cpu'; assert inference.main() == 0\n"
            "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(ROOT)], capture_output=True, text=True, check=True
        )
        return int(done.stdout.split()[-1]) / 2**10

    alone = peak()
    Image.new("RGB", (12000, 9000), (90, 120, 150)).save(place / "TestImages" / "big.png")
    assert peak() - alone < 1000
    with (
        Image.open(place / "TestPredictions" / "big.png") as mask,
        Image.open(place / "TestPredictions" / "big_overlay.png") as overlay,
    ):
        assert mask.size == (12000, 9000) and overlay.size[0] == 4096
