"""The plan: what is seen in masks, what follows from it, and the recipe that is written."""

from toolbox import choosing, planning
from toolbox.errors import InputError
from toolbox.memory import held_to
from toolbox.planned import Trial, set_steps
from toolbox.recipes import read_recipe
from toolbox.settings import read_constants
from toolbox.traits import Traits, find_traits, thickness_of

import cv2
import numpy as np
import pytest
from conftest import draw_squares
from PIL import Image

import plan
from dataset import prepare


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


def made_up(kept, pictures=100, thickness=9.0, **others):
    """Traits of two classes whose object keeps so much at sizes of 256, 128 and 64."""
    sizes = [(256, 256), (128, 128), (64, 64)]
    facts = {
        "names": ["background", "object"],
        "shape": (256, 256),
        "pictures": pictures,
        "share": np.array([0.9, 0.1]),
        "found": np.array([10, 10]),
        "thickness": np.array([50.0, thickness]),
        "things": np.array([1.0, 5.0]),
        "kept": {size: np.array([1.0, left]) for size, left in zip(sizes, kept)},
        "upside_down": 0.0,
        "mirrored": 0.0,
    }
    return Traits(**{**facts, **others})


def pace(microseconds=1.0):
    """A machine that takes so long for a pixel, and squares together."""
    return choosing.Pace(
        lambda features, patch, size: 1e-6 * microseconds * np.prod(size) * 4 / patch**2
    )


@pytest.mark.parametrize("width", [3, 5, 9])
def test_a_bar_is_as_thick_as_it_was_drawn(width):
    mask = np.zeros((60, 60), np.uint8)
    mask[20 : 20 + width, 5:55] = 1
    mask[45:50, 5:10] = 1
    widths, pieces = thickness_of(mask)
    assert pieces == 2 and abs(np.median(widths) - width) <= 1


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


def test_thin_things_get_a_larger_size_than_thick_ones():
    thin, _ = planning.make_plan(made_up((1.0, 0.6, 0.3)), pace(), 200, 4)
    thick, _ = planning.make_plan(made_up((1.0, 0.999, 0.998)), pace(), 200, 4)
    assert thin.constants["image_size"] == (256, 256)
    assert thick.constants["image_size"] < (256, 256)


def test_what_is_too_large_for_the_time_is_seen_in_windows_and_with_time_whole():
    traits = made_up((1.0, 0.5, 0.2))
    little, _ = planning.make_plan(traits, pace(40), 300, 5)
    much, _ = planning.make_plan(traits, pace(40), 300 * 400, 2000)
    assert max(little.constants["crop_size"]) < 256 and "crop_size" not in much.constants
    assert little.constants["image_size"] == (256, 256)


def test_things_are_turned_only_where_up_and_down_are_alike():
    for unlike, wanted in (
        (0.0, "zoom+flip+vflip+rotate+color+grey"),
        (0.5, "zoom+flip+color+grey"),
    ):
        traits = made_up((1.0, 0.9, 0.8), upside_down=unlike)
        planned, _ = planning.make_plan(traits, pace(), 200, 4)
        assert planned.constants["augment"] == wanted
    planned, _ = planning.make_plan(made_up((1, 0.9, 0.8), mirrored=0.5), pace(), 200, 4)
    assert "flip" not in planned.constants["augment"].split("+")


def test_few_pictures_are_changed_more_than_many():
    few, _ = planning.make_plan(made_up((1, 0.9, 0.8), pictures=20), pace(), 200, 4)
    many, _ = planning.make_plan(made_up((1, 0.9, 0.8), pictures=20_000), pace(), 200, 4)
    assert few.constants["augment_strength"] > many.constants["augment_strength"]
    assert few.constants["weight_decay"] > many.constants["weight_decay"]


def test_the_steps_fill_the_time_that_is_left():
    constants = {"batch_size": 2, "accum_steps": 2, "eval_iterations": 16}
    planned = planning.Plan()
    set_steps(planned, constants, Trial(0.1, 1.0, 30.0, pictures=50), 600)
    steps = planned.constants["training_iterations"]
    evaluating = 6 * planned.constants["eval_iterations"] / 16
    assert 600 - 20 < steps * 0.1 + 30 + evaluating <= 600
    with pytest.raises(InputError, match="there is time for 0 steps.*minutes=1 or more"):
        set_steps(planned, constants, Trial(0.1, 1.0, 30.0, pictures=50), 40)


def test_the_recipe_is_one_that_train_py_takes_and_is_never_written_over(tmp_path, monkeypatch):
    draw_squares(tmp_path / "own", 8)
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("toolbox.cache.CACHE", tmp_path / "cache")
    for name, value in {"dataset": "own", "minutes": 2.0, "device": "cpu", "TRIAL": 0.1}.items():
        monkeypatch.setattr(plan, name, value)
    plan.main()
    path = tmp_path / "recipes" / "own.py"
    given = read_recipe(str(path), {})
    assert given["dataset"] == "own" and given["training_iterations"] > 100
    assert given.keys() <= read_constants().keys()
    text = path.read_text()
    assert max(map(len, text.splitlines())) <= 100
    for name in ("image_size", "features", "augment", "training_iterations"):
        above = text[: text.index(f"\n{name} = ")].splitlines()[-1]
        assert above.startswith("# ")
    path.write_text(text + "# mine\n")
    plan.main()
    assert path.read_text().endswith("# mine\n")
    assert (tmp_path / "recipes" / "own-2.py").exists()


def test_a_batch_that_has_no_room_is_halved_and_made_up_for(monkeypatch):
    tried = []

    def try_out(constants, place):
        tried.append((constants["batch_size"], constants["accum_steps"]))
        if constants["batch_size"] > 1:
            raise MemoryError
        return "fits"

    monkeypatch.setattr(plan, "try_out", try_out)
    assert plan.try_until_it_fits({"batch_size": 4, "accum_steps": 1}, None) == "fits"
    assert tried == [(4, 1), (2, 2), (1, 4)]
    monkeypatch.setattr(plan, "try_out", lambda *_: np.empty(2**58))
    with pytest.raises(InputError, match="not even one picture"):
        plan.try_until_it_fits({"batch_size": 1, "accum_steps": 4}, None)


def test_a_trial_may_take_less_than_all(monkeypatch):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with held_to(0.85):
        within = resource.getrlimit(resource.RLIMIT_DATA)[0]
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert within > 0 and (before[0] == resource.RLIM_INFINITY or within < before[0])
