"""Checkpoints: what is written, and what is believed when it is read."""

import importlib
import io
import json
import math
import os
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path

from toolbox import checkpoints, digests
from toolbox.best import best_of
from toolbox.errors import InputError
from toolbox.keeping import only_class_of

import pytest
import torch
from conftest import ROOT
from PIL import Image

import inference
from model import UNet, build_model
from utils import load_checkpoint, save_checkpoint

MODEL = dict(architecture="unet", num_classes=3, in_channels=3, features=[4, 8], dropout=[0.0, 0.1])
CLASSES = [
    {"name": "ground", "color": [0, 0, 0]},
    {"name": "rot ü", "color": [255, 0, 0]},
    {"name": "blue", "color": [0, 0, 255]},
]


def make_saved(**changes) -> dict:
    """A checkpoint as train.py makes them."""
    torch.manual_seed(0)
    saved = {
        "format": 1,
        "model": dict(MODEL),
        "weights": build_model(**MODEL).state_dict(),
        "classes": [dict(each) for each in CLASSES],
        "image_size": [16, 24],
        "scale": 0.5,
        "step": 12,
        "metrics": {"val_loss": 1.5, "val_pixel_accuracy": 0.25, "val_mean_iou": math.nan},
        "constants": {"dataset": "own", "dropout": [0.0, 0.1], "seed": 0, "decay_factor": 1.2e7},
    }
    return {**saved, **changes}


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "unet_model.pth"


# ---- the digest ----

VALUES = [
    None,
    True,
    1,
    1.0,
    "1",
    -0.0,
    0.0,
    "",
    [],
    (),
    {},
    [1, 2],
    [1.0, 2.0],
    (1.0, 2.0),
    [[1], 2],
    [1, [2]],
    {"a": 1},
    {1: 1},
    {"1": 1},
    {"a": None},
    2**70,
    math.inf,
    torch.zeros(4),
    torch.zeros(2, 2),
    torch.zeros(4, dtype=torch.int32),
    torch.zeros(4, dtype=torch.bfloat16),
    torch.zeros(4, dtype=torch.float16),
    torch.zeros(()),
    torch.zeros(0),
    torch.tensor([0.0, 0, 0, 1]),
    torch.tensor([0.0, 0, 0, -0.0]),
    torch.tensor(True),
]


def test_no_two_values_have_one_digest():
    found = {digests.digest_of({"a": value}): value for value in VALUES}
    assert len(found) == len(VALUES)


def test_a_digest_does_not_hang_on_the_order_of_entries_or_of_memory():
    image = torch.arange(24.0).reshape(1, 2, 3, 4)
    one = digests.digest_of({"a": image, "b": [1.5, math.nan], "digest": "left out"})
    turned = image.contiguous(memory_format=torch.channels_last)
    assert one == digests.digest_of({"b": [1.5, math.nan], "a": turned})
    assert one != digests.digest_of({"b": [1.5, math.nan], "a": image.reshape(1, 2, 4, 3)})


def test_a_checkpoint_has_the_digest_of_all_else_in_it(path):
    saved = make_saved(resume={"rates": [0.1], "seen": {3: torch.zeros(1, 2, dtype=torch.uint8)}})
    save_checkpoint(path, saved)
    raw = torch.load(path, weights_only=True)
    assert raw["digest"] == digests.digest_of(saved) and len(raw["digest"]) == 64
    assert load_checkpoint(path).keys() == saved.keys()
    for change in (dict(scale=0.25), dict(resume={"rates": [0.2]}), dict(step=13)):
        torch.save({**raw, **change}, path)
        with pytest.raises(InputError, match="unet_model.pth is damaged: its digest does not fit"):
            load_checkpoint(path)


def test_a_byte_of_the_weights_that_changed_is_noticed(path):
    save_checkpoint(path, make_saved())
    content = bytearray(path.read_bytes())
    weights = make_saved()["weights"]["downs.1.0.weight"].numpy().tobytes()
    content[content.index(weights) + 101] ^= 1
    path.write_bytes(content)
    assert torch.load(path, weights_only=True)["format"] == 1  # torch sees nothing of it
    with pytest.raises(InputError, match="is damaged: its digest does not fit its content; take"):
        load_checkpoint(path)


def test_a_checkpoint_of_before_loads_and_a_line_says_that_it_has_no_digest(path, capsys):
    model = {"architecture": "unet", "num_classes": 3, "features": (4, 8), "dropout": 0.1}
    saved = make_saved(model=model, weights=dict(build_model(**model).state_dict()))
    saved["constants"] = {"dropout": (0.0, 0.1), "a_constant_of_once": 3, "class": None}
    saved["image_size"] = (16, 24)
    for name in ("scale", "step", "metrics"):
        del saved[name]
    for content in (saved, {name: saved[name] for name in checkpoints.NEEDED}):
        torch.save(content, path)
        assert load_checkpoint(path)["image_size"] == (16, 24)
        said = capsys.readouterr()
        assert said.out == "" and said.err.count("\n") == 1
        assert "was written before checkpoints had a digest" in said.err and str(path) in said.err
    save_checkpoint(path, saved)
    load_checkpoint(path)
    assert capsys.readouterr().err == ""


def test_a_big_checkpoint_has_its_digest_in_a_moment():
    rates = [0.1 * i for i in range(100_000)]
    content = {"weights": {str(i): torch.ones(1_000_000) for i in range(50)}, "rates": rates}
    began = time.perf_counter()
    digests.digest_of(content)
    assert time.perf_counter() - began < 5  # 200 MB; about 0.3 s on one core


# ---- what can't be read ----


def test_row_15_a_file_that_was_cut_off_is_called_so_with_its_size(path):
    save_checkpoint(path, make_saved())
    whole = path.read_bytes()
    for size in (0, 1, 30, 2000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        cut = f"unet_model.pth is cut off: only {size:,} bytes are left of it; take another copy"
        with pytest.raises(InputError, match=cut):
            load_checkpoint(path)


def test_whatever_byte_changes_in_an_archives_records_it_is_the_same_or_refused(path):
    save_checkpoint(path, make_saved())
    whole, weights = path.read_bytes(), make_saved()["weights"]
    refused = 0
    for place in [*range(60), *range(len(whole) - 300, len(whole))]:
        content = bytearray(whole)
        content[place] ^= 0xFF
        path.write_bytes(content)
        try:
            found = load_checkpoint(path)["weights"]
        except InputError as problem:
            assert str(path) in str(problem)
            refused += 1
        else:
            assert all(torch.equal(found[name], weights[name]) for name in weights)
    assert refused > 200


def picture() -> bytes:
    memory = io.BytesIO()
    Image.new("RGB", (4, 4)).save(memory, "png")
    return memory.getvalue()


def saved_by_torch(content: object, **options) -> bytes:
    memory = io.BytesIO()
    torch.save(content, memory, **options)
    return memory.getvalue()


def zipped(name: str) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        archive.writestr(name, "words")
    return memory.getvalue()


FOREIGN = {
    "picture": (picture, "it looks like a PNG picture"),
    "words": (lambda: b"no checkpoint at all", "it begins with b'no checkpoin'"),
    "page": (lambda: b"<!DOCTYPE html>", "it looks like a web page"),
    "lfs": (lambda: b"version https://git-lfs.github.com/spec/v1", "git lfs pull. brings it"),
    "pickle": (lambda: pickle.dumps({"a": 1}, 4), "it looks like a pickle"),
    "document": (lambda: zipped("word/document.xml"), "it is a zip file, but none of torch's"),
    "whole model": (lambda: saved_by_torch(torch.nn.Linear(1, 1)), "it holds objects of Python"),
    "state_dict": (
        lambda: saved_by_torch(UNet(2, features=[4]).state_dict()),
        "it looks like a state_dict: weights, without the net that they are of",
    ),
    "of once": (
        lambda: saved_by_torch({"a": torch.ones(1)}, _use_new_zipfile_serialization=False),
        "it looks like a state_dict",
    ),
    "another's": (
        lambda: saved_by_torch({"state_dict": {}, "epoch": 3}),
        "another project's, which keeps a state_dict; it lacks classes, format, image_size",
    ),
    "list": (lambda: saved_by_torch([1]), "it holds a list"),
    "tensor": (lambda: saved_by_torch(torch.ones(1)), "it holds a Tensor"),
    "format": (lambda: saved_by_torch(make_saved(format="1")), "its format is '1', and not 1"),
    "true": (lambda: saved_by_torch(make_saved(format=True)), "its format is True, and not 1"),
    "list of format": (lambda: saved_by_torch(make_saved(format=multiplied())), "its format is a "),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_a_file_that_is_none_of_ours_is_told_for_what_it_looks_like(path, kind):
    make, said = FOREIGN[kind]
    path.write_bytes(make())
    with pytest.raises(InputError, match=f"is not a checkpoint of this project .*{said}"):
        load_checkpoint(path)


def test_a_newer_format_is_told_by_its_number(path):
    save_checkpoint(path, make_saved(format=2))
    with pytest.raises(InputError, match="is of format 2, and this version of the project reads 1"):
        load_checkpoint(path)


def test_a_folder_a_missing_file_and_one_that_may_not_be_read_are_told_apart(path, monkeypatch):
    with pytest.raises(InputError, match="is not there; `python train.py` makes one"):
        load_checkpoint(path)
    with pytest.raises(InputError, match="is not there|File name too long"):
        load_checkpoint(path.with_name("x" * 5000))
    with pytest.raises(InputError, match="is a folder; name a checkpoint in it, such as"):
        load_checkpoint(path.parent)
    fold = path.parent / "run" / "fold-1" / "best.pth"
    fold.parent.mkdir(parents=True)
    fold.touch()
    with pytest.raises(InputError, match="name a checkpoint in it, such as .*run/fold-1/best.pth"):
        load_checkpoint(path.parent / "run")
    path.write_bytes(b"PK")
    for error, said in (
        (PermissionError(13, "Permission denied"), "Permission denied.; give leave to read it"),
        (OSError(5, "Input/output error"), "Input/output error.; its disk may be failing"),
    ):

        def fail(*_, error=error, **__):
            raise error

        monkeypatch.setattr(torch, "load", fail)
        with pytest.raises(InputError, match=f"unet_model.pth can't be read .{said}"):
            load_checkpoint(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="such files are a matter of Unix")
def test_what_is_no_file_does_not_hang(path):
    os.mkfifo(path)
    with pytest.raises(InputError, match="is not there"):
        load_checkpoint(path)


# ---- what is not as train.py writes it ----


def endless() -> list:
    value: list = []
    value.append(value)
    return value


def multiplied() -> list:
    """A few bytes that stand for 10 ** 15 numbers."""
    value: list = [1] * 10
    for _ in range(14):
        value = [value] * 10
    return value


def expanded() -> torch.Tensor:
    return torch.zeros(1).expand(10**6, 10**6)


STRANGE = {
    "endless": (endless, "lists in lists, more than 20 deep"),
    "multiplied": (multiplied, "more than fits into a file of its size"),
    "expanded": (expanded, "a tensor of more numbers than it stores"),
    "sparse": (lambda: torch.eye(3).to_sparse(), "a tensor that is not plain .torch.sparse_coo"),
    "complex": (
        lambda: torch.ones(2, dtype=torch.complex64),
        "a tensor that is not plain .*complex64",
    ),
    "meta": (lambda: torch.ones(2, device="meta"), "a tensor that is not plain"),
    "size": (lambda: torch.Size([1]), "a Size"),
    "named by None": (lambda: {None: 1}, "an entry whose name is a NoneType"),
}


@pytest.mark.parametrize("place", ["weights", "constants"])
@pytest.mark.parametrize("kind", STRANGE)
def test_what_no_checkpoint_holds_is_refused_before_it_takes_memory_or_time(path, kind, place):
    make, said = STRANGE[kind]
    torch.save(make_saved(**{place: {"head.bias": make()}}), path)
    with pytest.raises(InputError, match=f"not a checkpoint of this project .it holds {said}"):
        load_checkpoint(path)


HUGE = 10**22
WRONG = [
    ("model", None, "its model is None"),
    ("model", [], "its model is"),
    ("model", {}, "its model lacks architecture"),
    ("model", {**MODEL, "architecture": "vgg"}, "architecture is 'vgg'; expected one of unet"),
    ("model", {**MODEL, "architecture": ["unet"]}, "its model's architecture is"),
    ("model", {**MODEL, "num_classes": 1}, "num_classes is 1; expected a whole number from 2"),
    ("model", {**MODEL, "num_classes": True}, "num_classes is True"),
    ("model", {**MODEL, "num_classes": 300}, "num_classes is 300"),
    ("model", {**MODEL, "in_channels": 4}, "in_channels is 4"),
    ("model", {**MODEL, "features": [10**6]}, "features is .1000000."),
    ("model", {**MODEL, "features": [HUGE, HUGE]}, "features is"),
    ("model", {**MODEL, "features": 16}, "features is 16"),
    ("model", {**MODEL, "features": []}, "features is"),
    ("model", {**MODEL, "features": [4] * 1000}, "features is"),
    ("model", {**MODEL, "dropout": math.nan}, "dropout is nan"),
    ("model", {**MODEL, "dropout": [2.0, 0.0]}, "dropout is"),
    ("model", {**MODEL, "patch": torch.tensor(1)}, "patch is a tensor .. of torch.int64"),
    ("model", {**MODEL, "bias": 1}, "bias is 1"),
    ("model", {**MODEL, "extra": 1}, "its model has 'extra', which is unknown here"),
    ("classes", None, "its list of classes is None; expected 3 of them"),
    ("classes", CLASSES[:2], "its list of classes is"),
    ("classes", [*CLASSES[:2], {"name": "blue"}], "its class 2 is {'name': 'blue'}"),
    ("classes", [*CLASSES[:2], {"name": " ", "color": [0, 0, 0]}], "its class 2 is"),
    ("classes", [*CLASSES[:2], {"name": "\ud800", "color": [0, 0, 0]}], "its class 2 is"),
    ("classes", [*CLASSES[:2], {"name": "b", "color": [0, 0, 256]}], "its class 2 is"),
    ("classes", [*CLASSES[:2], {"name": "b", "color": [0, 0, 1.0]}], "its class 2 is"),
    ("image_size", None, "its image_size is None"),
    ("image_size", [16], "its image_size is .16."),
    ("image_size", 16, "its image_size is 16"),
    ("image_size", [0, 16], "its image_size is"),
    ("image_size", [HUGE, HUGE], "its image_size is"),
    ("image_size", [16.0, 16.0], "its image_size is"),
    ("scale", 0, "its scale is 0; expected a number above 0"),
    ("scale", math.nan, "its scale is nan"),
    ("scale", math.inf, "its scale is inf"),
    ("scale", "0.5", "its scale is '0.5'"),
    ("scale", True, "its scale is True"),
    ("step", -1, "its step is -1"),
    ("step", 1.0, "its step is 1.0"),
    ("metrics", [], "its metrics is"),
    ("metrics", {"val_loss": "low"}, "its metrics' 'val_loss' is 'low'; expected scores by name"),
    ("constants", {"seed": {"a": 1}}, "its constants' 'seed' is"),
    ("weights", [], "its weights is"),
    ("resume", 3, "its resume is 3"),
    ("whim", 3, "it has an entry 'whim', which is unknown here"),
]


@pytest.mark.parametrize(
    "name, value, said", WRONG, ids=[f"{w[0]}-{i}" for i, w in enumerate(WRONG)]
)
def test_every_word_of_a_description_is_checked(path, name, value, said):
    save_checkpoint(path, make_saved(**{name: value}))
    began = time.perf_counter()
    with pytest.raises(InputError, match=said) as problem:
        load_checkpoint(path)
    assert str(path) in str(problem.value) and time.perf_counter() - began < 5


def changed(name: str, change) -> dict:
    weights = make_saved()["weights"]
    weights[name] = change(weights[name].clone())
    return weights


def without(name: str) -> dict:
    return {key: value for key, value in make_saved()["weights"].items() if key != name}


def with_one(tensor: torch.Tensor, value: float) -> torch.Tensor:
    tensor.view(-1)[-1] = value
    return tensor


VARIANCE = "downs.0.1.running_var"
UNFIT = [
    (without("head.bias"), "it lacks the weights head.bias"),
    ({**without(""), "more": torch.ones(1)}, "it has weights 'more', which the net has not"),
    (changed("head.bias", lambda t: t.tolist()), "head.bias is .*, and no tensor"),
    (changed("head.bias", lambda t: t[:2]), r"head.bias is a tensor \(2,\) of torch.float32, and"),
    (changed("head.bias", lambda t: t.double()), "head.bias is .*float64, and the net's is"),
    (changed("head.bias", lambda t: t.bfloat16()), "head.bias is .*bfloat16, and the net's is"),
    (changed("head.bias", lambda t: with_one(t, math.nan)), "head.bias has numbers that are not f"),
    (changed("mean", lambda t: with_one(t, math.inf)), "mean has numbers that are not finite"),
    (changed(VARIANCE, lambda t: with_one(t, -0.1)), f"{VARIANCE} has numbers below 0"),
    (changed("std", lambda t: with_one(t, 0)), "std has numbers that are not above 0"),
]


@pytest.mark.parametrize("weights, said", UNFIT, ids=[str(i) for i in range(len(UNFIT))])
def test_weights_that_are_not_those_of_the_net_are_refused_by_name(path, weights, said):
    save_checkpoint(path, make_saved(weights=weights))
    with pytest.raises(InputError, match=f"does not fit the net that it describes: {said}"):
        load_checkpoint(path)


def test_a_big_net_is_refused_without_taking_its_memory(path):
    save_checkpoint(path, make_saved(model={**MODEL, "features": [2048, 2048]}))
    code = (
        "import resource, sys; sys.path.insert(0, sys.argv[1]); import inference\n"
        "from pathlib import Path; from toolbox.errors import InputError\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try: inference.load_checkpoint(Path(sys.argv[2]))\n"
        "except InputError as problem: print(problem)\n"
        "print('more', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ROOT, path], capture_output=True, text=True, check=True
    )
    assert "does not fit the net that it describes" in done.stdout
    assert int(done.stdout.split()[-1]) < 200_000  # KiB


def test_loading_leaves_chance_as_it_was_and_imports_no_compiler(path):
    save_checkpoint(path, make_saved())
    before = torch.get_rng_state()
    load_checkpoint(path)
    assert torch.equal(before, torch.get_rng_state())
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1]); import inference\n"
        "from pathlib import Path; inference.load_checkpoint(Path(sys.argv[2]))\n"
        "print(json.dumps('torch._dynamo' in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, ROOT, path], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) is False  # it would take two seconds


# ---- the scripts ----


def test_tiles_need_a_scale_and_else_a_checkpoint_without_one_is_fine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved = make_saved()
    del saved["scale"]
    save_checkpoint(Path("unet_model.pth"), saved)
    Path("InferenceOutput/TestImages").mkdir(parents=True)
    Image.new("RGB", (20, 30)).save("InferenceOutput/TestImages/a.png")
    monkeypatch.setattr(inference, "device", "cpu")
    assert inference.main() == 0
    monkeypatch.setattr(inference, "tile", True)
    with pytest.raises(InputError, match="unet_model.pth doesn't say at what scale it was trained"):
        inference.main()


def test_a_bad_checkpoint_ends_inference_in_a_sentence_for_every_setting(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"PK\3\4 and so on")
    for name in ("x.pth", "."):
        done = subprocess.run(
            [sys.executable, ROOT / "inference.py", f"checkpoint={name}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1 and done.stderr.count("\n") == 1 and name in done.stderr


@pytest.mark.parametrize("script", ["judge", "uncertainty"])
def test_experiments_read_checkpoints_through_the_same_door(path, monkeypatch, script):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    main = importlib.import_module(script)
    for name in ("checkpoint", "tta", "tile", "uncertainty_passes"):
        monkeypatch.setattr(inference, name, getattr(inference, name))  # put back at the end
    monkeypatch.setattr(main, "checkpoint", str(path))
    for content, said in (
        (make_saved(scale=math.nan), "its scale is nan"),
        (make_saved(constants={}), "its constants lack dataset"),
        (make_saved(constants={"dataset": 5}), "its constants' dataset is 5"),
    ):
        save_checkpoint(path, content)
        with pytest.raises(InputError, match=f"unet_model.pth .*{said}"):
            main.main()


def test_of_evaluations_as_good_the_lowest_loss_is_kept_and_the_last_of_these():
    """val may hold one class, which is right from the start."""

    def best(*rows):
        return best_of([{"val_mean_iou": score, "val_loss": loss} for score, loss in rows])

    nan = float("nan")
    assert best((0.5, 1.0), (0.7, 0.9), (0.6, 0.1)) == 1
    assert best((1.0, 0.9), (1.0, 0.2), (1.0, 0.3)) == 1
    assert best((1.0, 0.2), (1.0, 0.2), (0.9, 0.1)) == 1
    assert best((0.5, nan), (nan, 0.1), (0.5, 0.4)) == 2
    assert best((nan, nan), (nan, nan)) == 1


def test_one_class_is_no_warning_where_val_holds_no_other():
    all_first = torch.tensor([9, 0])
    assert only_class_of(all_first, torch.tensor([5, 4])) == 0
    assert only_class_of(all_first, torch.tensor([9, 0])) == -1
    assert only_class_of(torch.tensor([5, 4]), torch.tensor([5, 4])) == -1
