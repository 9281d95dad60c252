"""experiments/judge.py judges by pictures that no net has seen, under the classes it learnt."""

import shutil

from toolbox.errors import InputError

import judge
import pytest
from conftest import draw_squares

import inference


@pytest.fixture
def judging(run_train, tmp_path, monkeypatch):
    """Train with seeds on own pictures; then judge what lies at a path."""
    draw_squares(tmp_path / "own", 12)
    for name in ("checkpoint", "tta", "tile"):  # judge sets them
        monkeypatch.setattr(inference, name, getattr(inference, name))

    def run(checkpoint: str, seeds: tuple[int, ...] = ()) -> None:
        for seed in seeds:
            run_train(dataset="own", seed=seed, training_iterations=2, run_dir=f"runs/{seed}")
        monkeypatch.setattr(judge, "checkpoint", checkpoint)
        judge.main()

    return run


def test_nets_of_several_seeds_have_no_picture_that_all_have_not_seen(judging):
    with pytest.raises(InputError, match="the nets in runs have several seeds, and each seed"):
        judging("runs", seeds=(0, 2))


def test_nets_of_several_seeds_are_judged_on_the_owner_s_split(judging, tmp_path, capsys):
    for name in ("images", "masks"):
        for split, numbers in (("train", range(8)), ("val", range(8, 12))):
            folder = tmp_path / "own" / name / split
            folder.mkdir()
            for i in numbers:
                (folder.parent / f"p{i}.png").rename(folder / f"p{i}.png")
    judging("runs", seeds=(0, 2))
    assert "the mean of 2 nets" in capsys.readouterr().out


def test_nets_of_several_data_sets_are_not_judged_together(judging, run_train, tmp_path):
    draw_squares(tmp_path / "other", 12)
    run_train(dataset="other", seed=0, training_iterations=2, run_dir="runs/other")
    with pytest.raises(InputError, match="trained on the datasets other and own"):
        judging("runs", seeds=(0,))


def test_what_has_changed_since_training_is_said(judging, tmp_path, capsys):
    judging("runs/0", seeds=(0,))
    assert "have changed" not in capsys.readouterr().out
    for name in ("images", "masks"):
        shutil.rmtree(tmp_path / "own" / name)
    draw_squares(tmp_path / "own", 13)
    judging("runs/0")
    assert "of own have changed since runs/0 was trained" in capsys.readouterr().out
    (tmp_path / "runs" / "0" / "last.pth").write_bytes(b"damaged")
    judging("runs/0")
    assert "mean IoU" in capsys.readouterr().out
    judging("unet_model.pth")
    table = tmp_path / "own" / "classes.csv"
    table.write_text(table.read_text().replace("1,red", "1,rouge"))
    with pytest.raises(InputError, match="own has the classes ground, rouge, blue, and unet_model"):
        judging("unet_model.pth")
    shutil.rmtree(tmp_path / "own")
    with pytest.raises(InputError, match="unet_model.pth was trained on dataset own, to be judged"):
        judging("unet_model.pth")
