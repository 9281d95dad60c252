"""export.py: the ONNX file gives what inference.py gives, or is not put in place."""

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path

from toolbox import exporting
from toolbox.agreement import Compared, check_agreement
from toolbox.digests import digest_of
from toolbox.errors import InputError
from toolbox.machine import Place
from toolbox.masks import read_image, resize_image

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT
from PIL import Image
from trying import snapshot

import export
import inference
import utils
from model import build_model

onnx = pytest.importorskip("onnx", reason="onnx is not installed (requirements-export.txt)")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
with warnings.catch_warnings(action="ignore"):
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    from toolbox import graphs

SIZE = (18, 26)
CLASSES = [
    {"name": "ground", "color": [0, 0, 0]},
    {"name": "red é", "color": [255, 0, 0]},
    {"name": "blue", "color": [0, 0, 255]},
]


def draw(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def save_net(path: Path, **options) -> None:
    """A checkpoint of a net that nobody trained, whose batch norms have something to do."""
    torch.manual_seed(0)
    arguments = {"architecture": "unet", "num_classes": 3, "features": [4, 8], **options}
    model = build_model(**arguments)
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.uniform_(-1, 1)
            part.running_var.uniform_(0.5, 2)
    content = {"format": 1, "model": arguments, "weights": model.state_dict(), "step": 7}
    classes = CLASSES[: arguments["num_classes"]]
    utils.save_checkpoint(path, {**content, "classes": classes, "image_size": list(SIZE)})


def prepare(folder: Path, **options) -> Path:
    """A folder with a checkpoint and a picture, as export.py finds them."""
    save_net(folder / "unet_model.pth", **options)
    pictures = folder / "InferenceOutput" / "TestImages"
    pictures.mkdir(parents=True)
    Image.fromarray(draw((31, 47))).save(pictures / "a.png")
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return prepare(tmp_path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """A folder in which export.py has run."""
    folder = prepare(tmp_path_factory.mktemp("exported"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        export.main()
    return folder


def open_graph(folder: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(folder / "unet_model.onnx")


def check_like_inference(folder: Path, shape: tuple[int, int]) -> None:
    """The graph's classes are inference.py's; its confidences those of PyTorch's own enlarging."""
    where = Place("cpu", "fp32")
    saved = utils.load_checkpoint(folder / "unet_model.pth")
    model = inference.load_model(saved, where)
    picture = draw(shape, seed=1)
    small = resize_image(picture, SIZE)
    (found,) = inference.predict(model, [shape], small[None], where)
    ids, confidence = open_graph(folder).run(None, {"picture": picture})
    assert ids.dtype == np.uint8 and confidence.dtype == np.float32
    assert ids.shape == confidence.shape == shape
    assert (ids != found.ids).sum() <= ids.size // 10_000
    with torch.no_grad():
        logits = model(torch.from_numpy(small).permute(2, 0, 1)[None])
    probs = F.interpolate(logits, size=shape, mode="bilinear").softmax(1)
    assert np.allclose(confidence, probs.amax(1)[0], atol=1e-4)


SHAPES = [SIZE, (1, 1), (7, 11), (31, 77), (36, 52), (72, 78), (9, 200)]
NETS = [
    dict(padded=False, activation="leaky_relu"),
    dict(num_classes=2, patch=2, down="conv", up="nearest", dropout=0.2),
    dict(architecture="unet++", deep_supervision=True, bias=False),
]


@pytest.mark.parametrize("options", NETS, ids=str)
def test_every_kind_of_net_is_written_and_gives_what_inference_gives(
    tmp_path, monkeypatch, options
):
    monkeypatch.chdir(prepare(tmp_path, **options))
    export.main()
    for shape in SHAPES:
        check_like_inference(tmp_path, shape)


@pytest.mark.parametrize("shape", [*SHAPES, (2400, 2500)], ids=str)  # the last in two strips
def test_pictures_of_all_sizes_give_what_inference_gives(exported, shape):
    assert 2400 * 2500 * 3 > graphs.STRIP
    check_like_inference(exported, shape)


def test_pictures_are_resized_as_opencv_does_it_to_the_bit():
    model = graphs.before_net.to_model_proto()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    rng = np.random.default_rng(0)
    cases = [((160, 256), (80, 128)), ((240, 384), (80, 128)), ((80, 128), (80, 128))]
    cases += [((1, 1), (80, 128)), ((1, 40_000), (80, 128)), ((81, 128), (80, 128))]
    cases += [((320, 256), (80, 128)), ((200, 320), (80, 128)), ((37, 530), (80, 128))]
    for _ in range(60):
        numbers = [int(number) for number in rng.integers(1, 300, 4)]
        cases.append((tuple(numbers[:2]), tuple(numbers[2:])))
    for shape, size in cases:
        picture = draw(shape)
        images, sides = session.run(None, {"picture": picture, "size": np.array(size)})
        expected = resize_image(picture, size)
        assert np.array_equal(images[0].transpose(1, 2, 0), expected), (shape, size)
        assert tuple(sides) == shape


def test_the_file_says_what_it_is_and_keeps_no_paths_of_this_machine(exported):
    texts = open_graph(exported).get_modelmeta().custom_metadata_map
    saved = utils.load_checkpoint(exported / "unet_model.pth")
    assert texts["maker"] == "export.py"
    assert json.loads(texts["classes"]) == CLASSES
    assert json.loads(texts["image_size"]) == list(SIZE)
    assert texts["step"] == "7" and "scale" not in texts
    assert texts["checkpoint_digest"] == digest_of(saved)
    content = (exported / "unet_model.onnx").read_bytes()
    assert str(ROOT).encode() not in content and str(exported).encode() not in content
    graph = onnx.load_from_string(content)
    onnx.checker.check_model(graph, full_check=True)
    assert graph.ir_version == 10
    assert [(each.domain, each.version) for each in graph.opset_import] == [("", 18)]


def test_what_is_set_in_inference_changes_nothing(place, monkeypatch, exported):
    for name, value in (("tile", True), ("tta", True), ("uncertainty_passes", 3)):
        monkeypatch.setattr(inference, name, value)
    export.main()
    assert (place / "unet_model.onnx").read_bytes() == (exported / "unet_model.onnx").read_bytes()


# ---- what stays as it is ----


def test_a_file_of_that_name_that_is_somebody_elses_stays(place, monkeypatch, exported, capsys):
    graph = onnx.load(exported / "unet_model.onnx")
    made = graph.SerializeToString()
    monkeypatch.setattr(exporting, "make_graph", lambda *_: onnx.load_from_string(made))
    foreign = place / "unet_model.onnx"
    del graph.metadata_props[:]
    for content in (b"notes", b"", graph.SerializeToString()):
        foreign.write_bytes(content)
        export.main()
        assert foreign.read_bytes() == content
        assert (
            "unet_model.onnx is not from export.py, and stays as it is" in capsys.readouterr().out
        )
    assert snapshot(place).keys() >= {"unet_model.onnx", "unet_model-2.onnx", "unet_model.pth"}
    assert not list(place.glob("unet_model-3*"))  # the second is ours, and makes room
    foreign.unlink()
    foreign.symlink_to("unet_model.pth")
    (place / "unet_model-2.onnx").unlink()
    (place / "unet_model-2.onnx").mkdir()
    export.main()
    assert foreign.is_symlink() and (place / "unet_model-3.onnx").is_file()


def other_head(graph: onnx.ModelProto) -> None:
    """The scores of the last class are 1 higher."""
    for tensor in graph.graph.initializer:
        if tensor.name == "net/head.bias":
            bias = onnx.numpy_helper.to_array(tensor).copy()
            bias[-1] += 1
            tensor.CopyFrom(onnx.numpy_helper.from_array(bias, tensor.name))


def other_confidence(graph: onnx.ModelProto) -> None:
    """Ids are right, confidences are not."""
    graph.graph.output[1].name = "wrong"
    graph.graph.node.append(onnx.helper.make_node("Sqrt", ["confidence"], ["wrong"]))


@pytest.mark.parametrize("spoil", [other_head, other_confidence])
def test_a_graph_that_gives_something_else_is_not_put_in_place(place, monkeypatch, exported, spoil):
    graph = onnx.load(exported / "unet_model.onnx")
    spoil(graph)
    monkeypatch.setattr(exporting, "make_graph", lambda *_: graph)
    (place / "unet_model.onnx").write_bytes((exported / "unet_model.onnx").read_bytes())
    before = snapshot(place)
    with pytest.raises(InputError, match=r"unet_model.onnx was not written, .*% of .* pixels"):
        export.main()
    assert snapshot(place) == before


def test_one_pixel_in_ten_thousand_may_differ(tmp_path, capsys):
    big = Compared("big.png", (1000, 1000), 999_900, 0.0)
    small = Compared("small.png", (10, 10), 97, 1e-5)
    check_agreement([big], tmp_path)
    check_agreement([big._replace(alike=1_000_000), small], tmp_path)
    assert capsys.readouterr().out.startswith("99.9900% of 1,000,000 pixels get the class")
    for wrong in (
        [big._replace(alike=999_899)],
        [big._replace(alike=1_000_000), small._replace(alike=96)],
        [big._replace(apart=2e-4)],
        [big._replace(apart=float("nan"))],
        [big, small],
    ):
        with pytest.raises(InputError, match=r"not written, .* expected 99.99% .* the worst is"):
            check_agreement(wrong, tmp_path)


# ---- what is told ----


@pytest.mark.parametrize("name", exporting.PACKAGES)
def test_a_package_that_is_missing_is_asked_for(place, monkeypatch, name):
    real = exporting.find_spec
    monkeypatch.setattr(exporting, "find_spec", lambda word: None if word == name else real(word))
    with pytest.raises(InputError, match=rf"needs .* {name}, .*pip install -r requirements-export"):
        export.main()
    assert not (place / "unet_model.onnx").exists()


def test_what_is_no_checkpoint_gets_its_sentence(place, monkeypatch):
    monkeypatch.setattr(export, "checkpoint", "InferenceOutput/TestImages/a.png")
    with pytest.raises(InputError, match="a.png is not a checkpoint of this project"):
        export.main()
    monkeypatch.setattr(export, "checkpoint", "none.pth")
    with pytest.raises(InputError, match="none.pth is not there; `python train.py` makes one"):
        export.main()


def test_a_net_with_what_onnx_lacks_or_too_large_for_it_gets_its_sentence(monkeypatch):
    class Odd(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images  # a branch that depends on the picture

    with pytest.raises(InputError, match="this net has something that ONNX has no word for"):
        exporting.make_graph(Odd(), SIZE)
    monkeypatch.setattr(exporting, "LARGEST", 1000)
    with pytest.raises(InputError, match="weights are .* bytes, and an ONNX file holds 2 GiB"):
        exporting.make_graph(build_model("unet", num_classes=3, features=[4]), SIZE)


def test_pictures_are_found_named_and_passed_over(place, exported, monkeypatch, capsys):
    made = (exported / "unet_model.onnx").read_bytes()
    monkeypatch.setattr(exporting, "make_graph", lambda *_: onnx.load_from_string(made))
    (place / "InferenceOutput" / "TestImages" / "broken.png").write_bytes(b"no picture")
    (place / "InferenceOutput" / "TestImages" / "notes.txt").write_text("no picture either")
    export.main()
    said = capsys.readouterr().out
    assert "a.png (47×31): 1,457 of 1,457 pixels get the same class" in said
    assert "not compared: " in said and "broken.png" in said and "notes.txt" not in said
    monkeypatch.setattr(export, "input_dir", "nowhere")
    with pytest.raises(InputError, match="input_dir nowhere is not there"):
        export.main()


def test_help_shows_the_docstring_and_the_constants():
    done = subprocess.run(
        [sys.executable, ROOT / "export.py", "-h"], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith(export.__doc__.strip())
    assert 'output = "unet_model.onnx"  # ' in done.stdout


def test_the_lines_of_the_documentation_run_without_this_project(exported, tmp_path):
    text = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    (lines,) = re.findall(
        r"((?:    .*\n|\n)*    session = onnxruntime(?:    .*\n|.*\n)+?)\n\S", text
    )
    (tmp_path / "use.py").write_text(
        re.sub("^    ", "", lines, flags=re.M)
        + "\nimport sys\nassert not {'torch', 'toolbox', 'model'} & {*sys.modules}\n"
    )
    (tmp_path / "unet_model.onnx").write_bytes((exported / "unet_model.onnx").read_bytes())
    picture = Path("InferenceOutput/TestImages/street_people.png")
    (tmp_path / picture).parent.mkdir(parents=True)
    (tmp_path / picture).write_bytes((ROOT / picture).read_bytes())
    done = subprocess.run(
        [sys.executable, "-W", "error", "use.py"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    ids, confidence = open_graph(exported).run(None, {"picture": read_image(ROOT / picture)})
    colors = np.array([one["color"] for one in CLASSES], np.uint8)
    assert np.array_equal(read_image(tmp_path / "mask.png"), colors[ids])
    for number, one in enumerate(CLASSES):
        assert f"{one['name']}: {(ids == number).mean():.1%}" in done.stdout
