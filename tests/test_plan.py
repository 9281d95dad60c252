"""The plan: what is seen in masks, what follows from it, and the recipe that is written."""

import os
import sys

from toolbox import choosing, memory, planning
from toolbox.errors import InputError
from toolbox.machine import Place
from toolbox.memory import held_to
from toolbox.recipe_writing import Trial, evaluations_in, expectation, set_steps
from toolbox.recipes import read_recipe
from toolbox.settings import read_constants, settings_of, training_size
from toolbox.traits import Traits, chosen_rows, find_traits, thickness_of
from toolbox.trials import difficulty

import cv2
import numpy as np
import pytest
import torch
from conftest import draw_squares
from PIL import Image

import plan
import train
from dataset import prepare
from model import build_model


def save_pair(folder, name, image, mask):
    for kind, array in (("images", image), ("masks", mask)):
        (folder / kind).mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(folder / kind / f"{name}.png")


def draw_lines(folder, count=8, side=128, width=2, only_above=False):
    """Slanted lines anywhere, or in the upper half alone."""
    rng = np.random.default_rng(0)
    for i in range(count):
        mask = np.zeros((side, side), np.uint8)
        for _ in range(6):
            ends = rng.integers(0, side, (2, 2))
            if only_above:
                ends[:, 1] //= 2
            cv2.line(mask, ends[0].tolist(), ends[1].tolist(), 1, width)
        image = np.repeat(mask[..., None] * 200, 3, axis=2).astype(np.uint8)
        save_pair(folder, f"{i}", image, mask)


def traits_of(folder):
    return find_traits(prepare(str(folder), ".", (32, 32), cache=False, seed=0))


def made_up(left, pictures=100, **others):
    """Traits of two classes whose object keeps so much at sizes of 256, 128 and 64."""
    sizes = [(256, 256), (128, 128), (64, 64)]
    facts = {
        "names": ["background", "object"],
        "shape": (256, 256),
        "pictures": pictures,
        "judged": 0,
        "share": np.array([0.9, 0.1]),
        "thickness": np.array([50.0, 9.0]),
        "kept": {size: np.array([1.0, one]) for size, one in zip(sizes, left)},
        "upside_down": 0.0,
        "mirrored": 0.0,
    }
    return Traits(**{**facts, **others})


def pace(microseconds=1.0):
    """A machine that takes so long for a cell."""
    return choosing.Pace(
        lambda features, patch, size: 4e-6 * microseconds * np.prod(size) / patch**2
    )


def plan_for(traits, seconds=200, machine=None):
    best = choosing.best_candidate(traits, machine or pace(), seconds)
    return planning.make_plan(traits, best).constants


@pytest.mark.parametrize("width", [3, 5, 9])
def test_a_bar_is_as_thick_as_it_was_drawn(width):
    mask = np.zeros((60, 60), np.uint8)
    mask[20 : 20 + width, 5:55] = 1
    assert abs(np.median(thickness_of(mask)) - width) <= 1


def test_shrinking_takes_thin_things_first(tmp_path):
    draw_lines(tmp_path / "thin", width=1)
    draw_lines(tmp_path / "thick", width=9)
    thin, thick = traits_of(tmp_path / "thin"), traits_of(tmp_path / "thick")
    assert thin.thickness[1] < 3 < 7 < thick.thickness[1]
    for traits in (thin, thick):
        lefts = [kept[1] for kept in traits.kept.values()]
        assert lefts[0] == 1 and lefts == sorted(lefts, reverse=True)
    half = min(thin.kept, key=lambda size: abs(size[0] - 64))
    assert thin.kept[half][1] < 0.6 < 0.85 < thick.kept[half][1]


def test_up_and_down_are_told_apart_only_where_they_are(tmp_path):
    draw_lines(tmp_path / "anywhere", count=20)
    draw_lines(tmp_path / "above", count=20, only_above=True)
    anywhere, above = traits_of(tmp_path / "anywhere"), traits_of(tmp_path / "above")
    assert anywhere.upside_down < choosing.PLACED < 0.2 < above.upside_down
    assert max(anywhere.mirrored, above.mirrored) < choosing.PLACED


def test_of_few_masks_it_is_not_told_where_things_are(tmp_path):
    draw_lines(tmp_path / "few", count=6, only_above=True)
    traits = traits_of(tmp_path / "few")
    assert np.isnan(traits.upside_down) and np.isnan(traits.mirrored)
    assert plan_for(traits)["augment"] == "zoom+flip+color+grey"


def test_training_masks_without_a_class_are_said(tmp_path):
    for i in range(4):
        split = "train" if i < 2 else "val"
        image = np.random.default_rng(i).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        mask = np.full((16, 16), 255, np.uint8)
        if split == "val":
            mask[:8], mask[8:] = 0, 1
        save_pair(tmp_path / split, f"{i}", image, mask)
    (tmp_path / "classes.csv").write_text("id,name,red,green,blue\n0,a,0,0,0\n1,b,9,9,9\n")
    with pytest.raises(InputError, match="no pixel of the 2 training masks"):
        traits_of(tmp_path)


def test_thin_things_get_a_larger_size_than_thick_ones():
    assert plan_for(made_up((1.0, 0.6, 0.3)))["image_size"] == (256, 256)
    assert plan_for(made_up((1.0, 0.9999, 0.9998)))["image_size"] < (256, 256)


def test_what_is_too_large_for_the_time_is_seen_in_parts_and_with_time_whole():
    traits = made_up((1.0, 0.5, 0.2))
    little = plan_for(traits, 300, pace(40))
    assert max(little["crop_size"]) < 256 and little["image_size"] == (256, 256)
    assert "crop_size" not in plan_for(traits, 300 * 400, pace(40))


def test_what_a_step_computes_is_what_was_reckoned():
    for size in ((256, 256), (538, 806), (121, 195), (584, 565)):
        traits = made_up((1.0, 0.9, 0.8), kept={size: np.array([1.0, 0.9])})
        for one in choosing.candidates(traits, pace(), 200, 16):
            constants = one._asdict() | {"training_scale": choosing.SMALLER, "padded": True}
            multiple = one.patch * 2 ** len(one.features)
            net = build_model("unet", num_classes=2, features=one.features, patch=one.patch)
            assert net.multiple() == multiple
            for side, reckoned in zip(training_size(constants), one.trained):
                assert reckoned - multiple < side <= reckoned
                assert one.part == 1 or side == reckoned or side > 0.9 * reckoned


def test_there_is_room_for_what_is_chosen():
    traits, machine = made_up((1.0, 0.5, 0.2)), pace()
    machine.room = 100 * 100
    assert np.prod(choosing.best_candidate(traits, machine, 200).trained) <= 100 * 100
    machine.room = 4
    assert choosing.best_candidate(traits, machine, 200) is None
    machine.room, machine.most = np.inf, 128 * 128
    assert choosing.best_candidate(traits, machine, 200).image_size <= (128, 128)


def test_things_are_turned_only_where_up_and_down_are_alike():
    kept = (1.0, 0.9, 0.8)
    assert plan_for(made_up(kept))["augment"] == "zoom+flip+vflip+rotate+color+grey"
    assert plan_for(made_up(kept, upside_down=0.5))["augment"] == "zoom+flip+color+grey"
    assert plan_for(made_up(kept, mirrored=0.5))["augment"] == "zoom+color+grey"


def test_rare_classes_count_more():
    names, kept = ["a", "b", "c"], {(256, 256): np.ones(3)}
    thick = np.full(3, 9.0)
    for share, weight in (((0.5, 0.3, 0.2), 0.0), ((0.9, 0.09, 0.01), 0.5)):
        traits = made_up((), names=names, kept=kept, thickness=thick, share=np.array(share))
        assert plan_for(traits)["class_weights"] == weight


def test_of_what_is_learnt_at_once_a_step_sees_more():
    seen = []
    for hard in (0.01, 0.7):
        traits = made_up([1.0, 0.99, 0.98], difficulty=hard)
        best = choosing.best_candidate(traits, pace(10), 100)
        seen.append((best.part, best.views))
    (part, views), (hard_part, hard_views) = seen
    assert part == 1 > hard_part and views < hard_views / 2


def test_a_net_is_as_wide_as_still_sees_eight_thousand_pictures():
    machine = choosing.Pace(
        lambda features, patch, size: 1e-6 * features[0] ** 2 * np.prod(size) / patch**2
    )
    found = {}
    for seconds in (100, 150_000, 10_000_000):
        best = choosing.best_candidate(made_up([1.0, 0.9, 0.7]), machine, seconds)
        found[best.features[0]] = best.views
    narrow, middle, wide = found
    assert narrow == choosing.BASES[0] < middle < wide == choosing.BASES[-1]
    next_wider = choosing.BASES[choosing.BASES.index(middle) + 1]
    assert found[middle] >= 8000 > found[middle] * (middle / next_wider) ** 2


def test_what_more_time_would_bring_is_said_and_how_little_it_may_be():
    traits = made_up([1.0, 0.9, 0.7])
    now, later = (choosing.best_candidate(traits, pace(50), seconds) for seconds in (100, 1600))
    assert later.value > now.value + 0.01
    said = choosing.differs(now, later)
    assert said.startswith(f"perhaps {later.value - now.value:.2f} more mean IoU (")
    assert f"{later.views / now.views:.1f} times as many views of pictures)" in said
    assert choosing.differs(now, now).startswith("hardly more mean IoU (")


@pytest.mark.parametrize("crop, words", [((0, 0), "80 epochs"), ((96, 96), "80 windows of each")])
def test_windows_are_not_called_epochs(crop, words):
    chosen = {"image_size": (256, 256), "training_iterations": 2000, "crop_size": crop}
    plan_of = planning.Plan({**chosen, "batch_size": 2, "accum_steps": 2}, {"image_size": "so"})
    trial = Trial(start=10.0, step=0.1, look=0.1, drawing=0.5, end=30.0, memory=0)
    assert f"({words}" in expectation(plan_of, trial, 5, 100, "no more")


def test_noise_is_seen_to_be_harder_than_squares(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("toolbox.cache.CACHE", tmp_path / "cache")
    draw_squares(tmp_path / "squares", 8)
    draw_squares(tmp_path / "noise", 8)
    rng = np.random.default_rng(0)
    for path in (tmp_path / "noise" / "masks").iterdir():
        mask = np.asarray(Image.open(path)).copy()
        rng.shuffle(mask.reshape(-1))
        Image.fromarray(mask).save(path)
    own = {"data_dir": ".", "eval_iterations": 16, "device": "cpu"}
    found = [
        difficulty(train, {**read_constants(), **own, "dataset": name}, Place("cpu", "fp32"))
        for name in ("squares", "noise")
    ]
    assert found[0] < 0.02 and found[1] > 0.06, found


def test_few_pictures_are_changed_more_than_many():
    plans = []
    for epochs in (5, 100):
        plan_of = planning.Plan()
        planning.set_strength(plan_of, epochs)
        plans.append(plan_of.constants)
    few, many = plans
    assert few["augment_strength"] < many["augment_strength"]
    assert few["weight_decay"] < many["weight_decay"]


def test_the_steps_fill_the_time_that_is_left():
    constants = {"batch_size": 2, "accum_steps": 2, "eval_iterations": 16}
    chosen = planning.Plan()
    trial = Trial(start=10.0, step=0.1, look=0.1, drawing=0.5, end=30.0, memory=0)
    counts = (50, 20)
    set_steps(chosen, constants, trial, 600, counts, 1.0)
    looked_at = 2 * chosen.constants["eval_iterations"]
    evaluating = 6 * (0.5 + 0.1 * (min(50, looked_at) + min(20, looked_at)))
    assert 599 < chosen.constants["training_iterations"] * 0.1 + 40 + evaluating <= 600
    with pytest.raises(InputError, match="there is time for 0 steps.*minutes=1 or more"):
        set_steps(chosen, constants, trial, 40, counts, 1.0)
    set_steps(chosen, constants, trial, 60 * 1.5, counts, 1.0)
    set_steps(chosen, constants, trial._replace(step=1e-9), 600, counts, 1.0)
    assert chosen.constants["training_iterations"] == 10**7


def test_evaluations_look_at_less_and_are_fewer_where_they_take_long():
    constants = {"batch_size": 4, "eval_iterations": 16}
    trial = Trial(start=10.0, step=0.1, look=0.1, drawing=0.5, end=30.0, memory=0)
    assert evaluations_in(6000, constants, trial, (500, 100))[:2] == (6, 16)
    # 6 · (0.5 + 0.1 · (14 + 3)) = 13.2 s are within a twentieth of 300 s.
    assert evaluations_in(300, constants, trial, (14, 3)) == (6, 16, pytest.approx(13.2))
    slow = trial._replace(look=0.6)  # 6 · (0.5 + 0.6 · 7) is too much, 2 · (0.5 + 0.6 · 11) not
    assert evaluations_in(300, constants, slow, (14, 3)) == (2, 2, pytest.approx(14.2))
    slower = trial._replace(look=6.0)  # what they take is told, where it is more
    assert evaluations_in(300, constants, slower, (14, 3)) == (2, 1, pytest.approx(85))


def test_parts_of_pictures_are_not_taken_for_whole_ones():
    constants = {"batch_size": 4, "accum_steps": 1, "eval_iterations": 16}
    trial = Trial(start=10.0, step=0.1, look=0.1, drawing=0.5, end=30.0, memory=0)
    strengths = []
    for part in (1.0, 0.25):
        chosen = planning.Plan()
        set_steps(chosen, constants, trial, 600, (500, 100), part)
        strengths.append(chosen.constants["augment_strength"])
    assert strengths == [2.0, 1.0]


def test_where_judging_would_take_the_time_pictures_are_smaller():
    sizes = []
    for judged in (0, 1200):
        traits = made_up((1.0, 0.99, 0.95), judged=judged)
        best = choosing.best_candidate(traits, pace(40), 200)
        sizes.append(best.image_size)
        judging = choosing.FORWARD * judged * pace(40).seconds(best.features, best.patch, sizes[-1])
        assert judging / choosing.BATCH < 0.6 * 200
    assert sizes == [(256, 256), (128, 128)]


def test_masks_that_are_ignored_or_lack_a_rare_class_do_not_hide_the_others(tmp_path):
    for i in range(200):
        mask = np.zeros((16, 16), np.uint8)
        if i % 2:
            mask[:] = 255
        elif i == 2:
            mask[4:8], mask[8:] = 1, 2
        else:
            mask[4:] = 1
        image = np.random.default_rng(i).integers(0, 256, (16, 16, 3)).astype(np.uint8)
        save_pair(tmp_path / ("train" if i < 196 else "val"), f"{i:03}", image, mask)
    rows = [f"{i},{name},{i},{i},{i}" for i, name in enumerate("abc")]
    (tmp_path / "classes.csv").write_text("\n".join(["id,name,red,green,blue", *rows, ""]))
    data = prepare(str(tmp_path), ".", (32, 32), cache=False, seed=0)
    assert data.pixels[chosen_rows(data), :3].any(axis=1).all()
    traits = find_traits(data)
    assert not np.isnan(traits.thickness).any()
    assert traits.judged == 200 and traits.pictures == 196


def test_the_recipe_is_one_that_train_py_takes_and_is_never_written_over(tmp_path, monkeypatch):
    draw_squares(tmp_path / "möin 📷", 8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("toolbox.cache.CACHE", tmp_path / "cache")
    own = {"dataset": "möin 📷", "minutes": 60.0, "device": "cpu"}
    for name, value in own.items():
        monkeypatch.setattr(plan, name, value)
    before = settings_of(vars(train))
    plan.main()
    assert settings_of(vars(train)) == before
    path = tmp_path / "recipes" / "möin.py"
    given = read_recipe(str(path), {})
    assert (given["dataset"], given["device"]) == ("möin 📷", "cpu")
    assert given["training_iterations"] > 100
    assert given.keys() <= read_constants().keys()
    text = path.read_text()
    assert max(map(len, text.splitlines())) <= 100
    for name in ("image_size", "features", "augment", "training_iterations", "patience"):
        above = text[: text.index(f"\n{name} = ")].splitlines()[-1]
        assert above.startswith("# ")
    assert not (tmp_path / "unet_model.pth").exists() and not (tmp_path / "TrainingOutput").exists()
    path.write_text(text + "# mine\n")
    plan.main()
    assert path.read_text().endswith("# mine\n")
    assert (tmp_path / "recipes" / "möin-2.py").exists()


def test_a_batch_that_has_no_room_is_halved_and_made_up_for(monkeypatch):
    tried, fitting = [], 2

    def try_alone(work, constants):
        tried.append((constants["batch_size"], constants["accum_steps"]))
        return "fits" if constants["batch_size"] <= fitting else None

    monkeypatch.setattr(plan, "try_alone", try_alone)
    assert plan.try_until_it_fits({"batch_size": 4, "accum_steps": 1}) == "fits"
    assert tried == [(4, 1), (2, 2)]
    tried.clear()
    fitting = 1  # batch norm can't do with that
    assert plan.try_until_it_fits({"batch_size": 4, "accum_steps": 1}) is None
    assert tried == [(4, 1), (2, 2)]


def end_at_once(*_):
    """As the system ends a process that takes too much."""
    os._exit(137)


def test_a_trial_without_room_says_so_and_ends_nothing(tmp_path, monkeypatch):
    constants = {"device": "cpu", "precision": "fp32"}
    monkeypatch.setattr("toolbox.cache.CACHE", tmp_path)
    assert plan.try_once(lambda *_: np.empty(2**58), constants, tmp_path) is None
    monkeypatch.setattr(plan, "try_once", end_at_once)
    assert plan.try_alone(plan.try_out, constants) is None


def test_where_nothing_fits_something_smaller_is_planned(monkeypatch):
    sizes = []

    def fits(constants):
        sizes.append(np.prod(training_size(constants)))
        return "a trial" if sizes[-1] < 90 * 90 else None

    monkeypatch.setattr(plan, "try_until_it_fits", fits)
    constants = {"batch_size": 4, "accum_steps": 1, "padded": True}
    traits, place = made_up((1.0, 0.9, 0.8)), Place("cpu", "fp32")
    plan.plan_that_fits(constants, place, traits, pace(), 200)
    assert len(sizes) > 1 and sizes == sorted(sizes, reverse=True)
    assert np.prod(training_size(constants)) < 90 * 90
    monkeypatch.setattr(plan, "try_until_it_fits", lambda _: None)
    with pytest.raises(InputError, match="too little memory to train"):
        plan.plan_that_fits(constants, place, traits, pace(), 200)


def test_a_trial_may_take_less_than_all():
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with held_to(0.85, torch.device("cpu")):
        within = resource.getrlimit(resource.RLIMIT_DATA)[0]
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert within > 0 and (before[0] == resource.RLIM_INFINITY or within < before[0])


def test_what_a_process_holds_is_not_taken_from_a_trial(monkeypatch):
    """Of 2 GiB the libraries hold half; a trial may have most of the rest."""
    resource = pytest.importorskip("resource")
    if sys.platform == "linux":
        assert memory.own_data() > 2**26
    most = resource.getrlimit(resource.RLIMIT_DATA)[0]
    if most == resource.RLIM_INFINITY:
        most = memory.memory()
    monkeypatch.setattr(memory, "own_data", lambda: most // 2)
    with held_to(0.5, torch.device("cpu")):
        within = resource.getrlimit(resource.RLIMIT_DATA)[0]
    assert within == pytest.approx(0.75 * most, rel=1e-6)


def test_the_share_of_a_picture_that_a_step_sees_is_what_it_is():
    """Of long pictures a part is as high as they are, and so larger than was wished."""
    traits = made_up([1.0, 0.9], (96, 960))
    for one in choosing.candidates(traits, pace(), 100, 16):
        seen = np.prod(one.crop_size) / np.prod(one.image_size)
        assert one.part == (seen if any(one.crop_size) else 1)


def test_the_widest_net_is_said_to_be_the_widest_that_is_tried():
    best = choosing.best_candidate(made_up([1.0, 0.9]), pace(0.001), 10_000)
    plan_of_it = planning.make_plan(made_up([1.0, 0.9]), best)
    assert best.features[0] == choosing.BASES[-1]
    assert plan_of_it.reasons["features"].endswith("no wider net is tried")


@pytest.mark.parametrize("minutes", [0.0, -5.0])
def test_there_must_be_some_minutes(minutes, monkeypatch):
    monkeypatch.setattr(plan, "minutes", minutes)
    with pytest.raises(InputError, match="minutes is"):
        plan.main()
