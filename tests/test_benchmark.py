"""The benchmark: what it counts and compares, and one short round of its parts."""

import json

from toolbox import settings
from toolbox.errors import InputError

import benchmark
import measuring
import pytest
import textbook
import torch

import train
from model import build_model


def test_work_is_counted_as_published_for_the_papers_net():
    model = build_model("unet", num_classes=24, features=(64, 128, 256, 512)).to("meta")
    images = torch.empty(1, 3, 256, 512, dtype=torch.uint8, device="meta")
    forward, size = measuring.count_work(model, images, backward=False)
    both, more = measuring.count_work(model, images, backward=True)
    assert (
        forward / 1e9 == pytest.approx(193.06, abs=0.01)
        and both == pytest.approx(579e9, rel=0.01)
        and more > 2 * size > 0
    )


def test_bytes_are_counted_by_hand():
    with measuring.ByteCounter() as counter:
        a = torch.ones(10)  # 40 written
        b = a.view(2, 5) + 1  # 40 read, 40 written, the view costs nothing
        b.relu_()  # read and written in place
    assert counter.total in (40 + 80 + 80, 40 + 80 + 80 + 8)


def test_ratios_are_of_things_timed_in_the_same_round():
    found = measuring.compare({"ours": [1.0, 2.0, 4.0], "textbook": [2.0, 6.0, 8.0]}, "ours")
    assert (
        found["times as fast as"]["textbook"] == {"median": 2.0, "least": 2.0, "most": 3.0}
        and found["seconds"]["ours"]["median"] == 2.0
    )


# The textbook's data set leaves its files open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_comparison_runs_starts_from_one_loss_and_is_written_down(
    tmp_path, monkeypatch, capsys
):
    for name, value in settings.settings_of(vars(train)).items():
        monkeypatch.setattr(train, name, value)  # what it changes is put back
    tiny = dict(name="tiny", features=(4, 8), image_size=(16, 32), batch_size=2)
    tiny |= dict(classes=3, rounds=1)
    for name, value in {
        "ROOT": tmp_path,
        "cases": lambda place: [tiny],
        "repeats": 1,
        "pictures": 2,
        "device": "cpu",
        "precision": "fp32",
        "parts": "floor+training+prediction+data",
    }.items():
        monkeypatch.setattr(benchmark, name, value)
    benchmark.main()
    results = json.loads((tmp_path / "TrainingOutput" / "benchmark.json").read_text())
    parts = {"floor", "training", "prediction", "data"}
    assert results.keys() == {"machine", "torch", "python", *parts}
    assert results["training"]["tiny"]["times as fast as"]["textbook"]["median"] > 0
    assert "share of the matrix rate" in results["prediction"]["tiny"]
    assert results["data"]["Carvana"]["times as fast as"]["textbook"]["median"] > 3
    monkeypatch.setattr(textbook, "train_step", lambda *_: 99.0)
    with pytest.raises(InputError, match="the first losses differ"):
        benchmark.main()
    monkeypatch.setattr(benchmark, "parts", "flor")
    with pytest.raises(InputError, match="of which 'flor' is unknown"):
        benchmark.main()
