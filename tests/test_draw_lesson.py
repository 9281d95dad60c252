import re

from toolbox.kinds import check_value
from toolbox.settings import override, read_constants, settings_of

import draw_lesson
import pytest
import torch
from conftest import ROOT, draw_squares
from PIL import Image

import utils
from model import DoubleConv, build_model

LESSON = ROOT / "docs" / "lesson.md"
TEXT = LESSON.read_text(encoding="utf-8")
PICTURES = ("levels", "skips", "pull", "augmented", "rates", "confusion")


def test_it_draws_six_pictures_of_a_run(run_train, tmp_path, monkeypatch, capsys):
    squares = draw_squares(tmp_path / "squares", 6)
    run_train(dataset=str(squares))
    small = {"picture": 0, "augmented": 0, "thin": "red", "shown": (0,)}
    for name, value in small.items():
        monkeypatch.setattr(draw_lesson, name, value)
    draw_lesson.main()
    for name in PICTURES:
        with Image.open(tmp_path / "docs" / "pictures" / f"{name}.png") as picture:
            extremes = picture.convert("L").getextrema()
        assert extremes[0] < extremes[1], name
    with Image.open(tmp_path / draw_lesson.example) as picture:
        assert picture.width > 3 * 16
    printed = capsys.readouterr().out
    for start in ("all skips", "without skip 2", "without any", "red: ", "decay_factor=1.2e7"):
        assert f"\n{start}" in printed


def test_the_pictures_of_the_lesson_are_there_and_small():
    shown = re.findall(r"!\[[^]]+\]\((\S+)\)", TEXT)
    assert sorted(shown) == sorted(f"pictures/{name}.png" for name in PICTURES)
    sizes = [(LESSON.parent / path).stat().st_size for path in shown]
    assert 0 < min(sizes) and sum(sizes) < 1.5e6


def way_down(levels: int) -> list[torch.nn.Module]:
    """DoubleConvs that add up what they see, and the pools between them."""
    layers = []
    for level in range(levels + 1):
        block = DoubleConv(1, 1).eval()
        for module in block:
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.ones_(module.weight)
                torch.nn.init.zeros_(module.bias)
        layers.append(block)
        if level < levels:
            layers.append(torch.nn.MaxPool2d(2))
    return layers


@pytest.mark.parametrize("row, column", [(80, 80), (83, 86)])
def test_a_number_sees_its_patch_and_nothing_else(row, column):
    layers = way_down(3)
    for level, (top, left, side) in enumerate(draw_lesson.patches(3, row, column)):
        net = torch.nn.Sequential(*layers[: 2 * level + 1])
        place = (0, 0, row // 2**level, column // 2**level)
        seen = {}
        for inset in (-1, 0):  # a pixel outside the corners, and in them
            for y in (top + inset, top + side - 1 - inset):
                for x in (left + inset, left + side - 1 - inset):
                    image = torch.zeros(1, 1, 160, 160)
                    image[0, 0, y, x] = 1
                    with torch.no_grad():
                        seen.setdefault(inset, []).append(net(image)[place].item() > 0)
        assert not any(seen[-1]) and all(seen[0]), level


def test_the_patches_are_as_large_as_the_lesson_says():
    sides = [side for _, _, side in draw_lesson.patches(3, 40, 64)]
    assert sides == [5, 14, 32, 68]
    for side in sides:
        assert re.search(rf"\| \+ 4·\d \| {side}\b", TEXT)


def test_a_skip_at_zero_leaves_what_comes_from_below():
    both = torch.rand(2, 6, 4, 4)
    changed = draw_lesson.zero_skip(None, (both,))
    assert not changed[:, :3].any() and torch.equal(changed[:, 3:], both[:, 3:])


def test_all_skips_at_zero_leave_nothing_but_the_bottleneck():
    model = build_model("unet", num_classes=3, features=[4, 8]).eval()
    for join in model.joins:
        join.register_forward_pre_hook(draw_lesson.zero_skip)
    model.bottleneck.register_forward_hook(lambda module, inputs, out: torch.zeros_like(out))
    with torch.no_grad():
        logits = model(torch.randint(0, 255, (2, 3, 16, 16)))
    assert torch.equal(logits[0], logits[1])


def test_cross_entropy_pulls_alike_and_dice_at_the_small_class():
    masks = torch.zeros(1, 8, 8, dtype=torch.int64)
    masks[0, :, 0] = 1
    logits = torch.zeros(1, 2, 8, 8)
    alike = draw_lesson.pull("ce", logits, masks)
    assert alike.tolist() == torch.full((8, 8), 1 / 64).tolist()
    strength = draw_lesson.pull("dice", logits, masks)
    assert strength.sum().item() == pytest.approx(1)
    assert (strength[:, 0] > 1.5 * strength[:, 1]).all()


def test_the_example_worked_by_hand_scores_what_the_lesson_says():
    matrix = draw_lesson.matrix_by_hand()
    for row, name in zip(matrix.counts.tolist(), draw_lesson.NAMES):
        numbers = " | ".join(str(count) for count in [*row, sum(row)])
        assert f"| **is {name}** | {numbers} |" in TEXT
    scores = matrix.scores()
    assert scores["iou"].tolist() == pytest.approx([6 / 10, 2 / 5, 3 / 4])
    assert scores["dice"].tolist() == pytest.approx([12 / 16, 4 / 7, 6 / 7])
    for name, iou, dice in zip(draw_lesson.NAMES, scores["iou"], scores["dice"]):
        assert re.search(rf"\| {name} \| [^|]+ = {iou:.3f} \| [^|]+ = {dice:.3f} \|", TEXT)
    assert f"| mean | {scores['mean_iou']:.3f} | {scores['mean_dice']:.3f} |" in TEXT
    assert f"accuracy of {scores['pixel_accuracy']:.3f}" in TEXT
    assert scores["pixel_accuracy"] == pytest.approx(11 / 15)


def test_always_road_scores_what_the_lesson_says():
    matrix = utils.ConfusionMatrix(3)
    true = torch.tensor(draw_lesson.TRUE)
    matrix.update(torch.zeros_like(true), true)
    scores = matrix.scores()
    assert scores["pixel_accuracy"] == pytest.approx(0.467, abs=5e-4)
    assert scores["mean_iou"] == pytest.approx(0.156, abs=5e-4)
    assert "0.467" in TEXT and "0.156" in TEXT


def commands(script: str) -> list[list[str]]:
    """The arguments of each command for that script in the lesson, in a block or in a line."""
    found = re.findall(rf"^ {{4}}python {script}\.py(.*)$", TEXT, re.MULTILINE)
    found += re.findall(rf"`python {script}\.py([^`]*)`", TEXT)
    return [line.split() for line in found]


@pytest.mark.parametrize("script, least", [("train", 8), ("dataset", 2), ("model", 2)])
def test_commands_name_constants_that_exist(script, least):
    known = read_constants()
    lines = commands(script)
    assert len(lines) >= least
    for arguments in lines:
        for argument in arguments:
            if argument == "short.py":
                continue
            name, equals, text = argument.partition("=")
            assert equals and name in known, argument
            override(dict(known), [argument])


def test_the_recipe_of_the_lesson_holds_constants_that_exist():
    recipe = TEXT.split("`short.py`", 1)[1].split("\n\n")[1]
    given = {}
    exec("\n".join(line.strip() for line in recipe.splitlines()), {}, given)
    known = read_constants()
    assert given["training_iterations"] == 400
    for name, value in given.items():
        assert name in known and check_value(name, value) == value


def test_the_lines_to_change_stand_in_the_files():
    files = [ROOT / f"{name}.py" for name in ("model", "dataset", "utils", "train", "inference")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    removed = re.findall(r"^-( {8,}.+)$", TEXT, re.MULTILINE)
    assert len(removed) == 4
    for line in removed:
        assert text.count(f"{line}\n") == 1, line


def test_the_loss_of_the_lesson_is_one_minus_iou():
    (lines,) = re.findall(r"```diff\n(\+def iou.*?)```", TEXT, re.DOTALL)
    module = dict(vars(utils))
    exec("\n".join(line[1:] for line in lines.splitlines()), module)
    matrix = draw_lesson.matrix_by_hand()
    found = torch.tensor(draw_lesson.FOUND)[None]
    log_probs = torch.nn.functional.one_hot(found, 3).movedim(-1, 1).float().log()
    log_probs = log_probs.clamp(min=-50)  # 0 · -inf is no number
    loss = module["iou"](log_probs, torch.tensor(draw_lesson.TRUE)[None])
    assert loss.item() == pytest.approx(1 - matrix.scores()["mean_iou"], abs=1e-5)


def test_lines_are_of_100_columns_and_links_lead_somewhere():
    for line in TEXT.splitlines():
        assert len(line) <= 100, line
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", TEXT)
    assert len(links) >= 12
    for link in links:
        assert (LESSON.parent / link).exists(), link


def test_constants_are_plain_values():
    known = settings_of(vars(draw_lesson))
    of_lesson = {"checkpoint", "folder", "picture", "thin", "looked_at", "augmented"}
    assert set(known) == {*of_lesson, "shown", "example"}
