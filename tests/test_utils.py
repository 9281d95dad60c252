import math
import platform
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

import utils
from dataset import IGNORE, InputError
from utils import (
    ConfusionMatrix,
    count_plateaus,
    cross_entropy,
    dice,
    learning_rate,
    lovasz,
    make_loss,
    tversky,
    weigh_classes,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from segmentation_models_pytorch.losses import DiceLoss, LovaszLoss, TverskyLoss
    from torchmetrics.classification import MulticlassJaccardIndex
    from torchmetrics.segmentation import DiceScore
    from torchvision.ops import sigmoid_focal_loss

EVERY_LOSS = ["ce", "dice", "focal", "tversky", "lovasz", "ce+dice", "focal+lovasz"]


def random_case(batch=2, classes=4, size=8, ignore=0.0, seed=0):
    torch.manual_seed(seed)
    logits, masks = (
        torch.randn(batch, classes, size, size),
        torch.randint(0, classes, (batch, size, size)),
    )
    masks[torch.rand(masks.shape) < ignore] = IGNORE
    return logits, masks


# ---- losses ----


def test_cross_entropy_agrees_with_torch_picture_by_picture():
    logits, masks = random_case(ignore=0.3)
    for i in range(2):
        assert torch.isclose(
            cross_entropy(logits.log_softmax(1), masks)[i],
            F.cross_entropy(logits[i : i + 1], masks[i : i + 1], ignore_index=IGNORE),
        )


def test_dice_agrees_with_segmentation_models_pytorch():
    logits, masks = random_case(batch=1)
    assert torch.isclose(
        dice(logits.log_softmax(1), masks)[0],
        DiceLoss("multiclass", smooth=0)(logits, masks),
        atol=1e-5,
    )


def test_dice_worked_by_hand():
    """Two pixels, both of class 0, with probabilities 3/4 and 1/4: overlap 1, sums 1 + 2, Dice 2/3."""
    logits = torch.tensor([[[[3.0, 1.0]], [[1.0, 3.0]]]]).log()
    assert torch.isclose(
        dice(logits.log_softmax(1), torch.zeros(1, 1, 2, dtype=torch.int64))[0], torch.tensor(1 / 3)
    )


def test_dice_of_a_picture_of_two_million_pixels_is_as_exact_as_of_one():
    logits = torch.tensor([0.97, 0.03]).log().view(1, 2, 1, 1)
    large, small = (
        dice(logits.expand(-1, -1, *size), torch.zeros(1, *size, dtype=torch.int64)).item()
        for size in ((1024, 2048), (1, 1))
    )
    assert small == pytest.approx(1 - 2 * 0.97 / 1.97, abs=1e-6) and large == pytest.approx(
        small, abs=1e-4
    )


def test_weighted_cross_entropy_agrees_with_torch_picture_by_picture():
    logits, masks = random_case(ignore=0.3)
    weights = torch.tensor([0.2, 3, 1, 0])
    for i in range(2):
        expected = F.cross_entropy(
            logits[i : i + 1], masks[i : i + 1], weights, ignore_index=IGNORE
        )
        assert torch.isclose(cross_entropy(logits.log_softmax(1), masks, weights)[i], expected)


def test_class_weights_make_classes_alike_at_1_and_pixels_alike_at_0():
    pixels = torch.tensor([600, 300, 100, 0])
    assert weigh_classes(pixels, 0).tolist() == [1, 1, 1, 0]
    assert torch.allclose(
        weigh_classes(pixels, 1) * pixels, torch.tensor([1000 / 3, 1000 / 3, 1000 / 3, 0])
    )
    half = weigh_classes(pixels, 0.5)
    assert half[2] / half[0] == pytest.approx(6**0.5) and (half * pixels).sum() == pytest.approx(
        1000
    )


def test_focal_loss_of_two_classes_agrees_with_torchvision():
    z, masks = torch.randn(2, 1, 6, 6), torch.randint(0, 2, (2, 6, 6))
    logits = torch.cat([torch.zeros_like(z), z], 1)
    expected = sigmoid_focal_loss(z[:, 0], masks.float(), alpha=-1, gamma=2, reduction="mean")
    assert torch.isclose(make_loss("focal")(logits, masks), expected)


def test_focal_loss_worked_by_hand():
    """One pixel whose class has probability 3/4: (1/4)² · -ln(3/4)."""
    logits = torch.tensor([[[[3.0]], [[1.0]]]]).log()
    assert make_loss("focal")(
        logits, torch.zeros(1, 1, 1, dtype=torch.int64)
    ).item() == pytest.approx(-math.log(0.75) / 16)


def test_tversky_agrees_with_segmentation_models_pytorch_and_is_dice_at_one_half():
    logits, masks = random_case(batch=1)
    assert torch.isclose(
        tversky(logits.log_softmax(1), masks, 0.7)[0],
        TverskyLoss("multiclass", smooth=0, alpha=0.3, beta=0.7)(logits, masks),
        atol=1e-5,
    )
    assert torch.equal(
        tversky(logits.log_softmax(1), masks, 0.5), dice(logits.log_softmax(1), masks)
    )


def test_lovasz_agrees_with_segmentation_models_pytorch():
    logits, masks = random_case(ignore=0.3)
    masks[0][masks[0] == 2] = 1  # the first picture lacks a class
    expected = LovaszLoss("multiclass", per_image=True, ignore_index=IGNORE)(logits, masks)
    assert torch.isclose(lovasz(logits.log_softmax(1), masks).mean(), expected, atol=1e-6)


def test_lovasz_is_1_less_the_iou_where_every_pixel_is_surely_right_or_wrong():
    masks, preds = torch.tensor([[[0, 0, 0, 1, 1]]]), torch.tensor([[[0, 0, 1, 1, 0]]])
    logits = 1000.0 * F.one_hot(preds, 2).movedim(-1, 1)
    assert lovasz(logits.log_softmax(1), masks)[0].item() == pytest.approx(1 - (2 / 4 + 1 / 3) / 2)


def test_row_9_a_mask_is_not_its_own_logits_but_100_times_its_one_hot_is():
    masks = torch.randint(0, 4, (2, 6, 6))
    one_hot = F.one_hot(masks, 4).movedim(-1, 1).float()
    for name in EVERY_LOSS:
        assert make_loss(name)(one_hot, masks) > 0.01 > 1e-5 > make_loss(name)(100 * one_hot, masks)


def test_two_classes_with_one_logit_equal_binary_cross_entropy():
    z, masks = torch.randn(2, 1, 6, 6), torch.randint(0, 2, (2, 6, 6))
    logits = torch.cat([torch.zeros_like(z), z], 1)
    assert torch.isclose(
        make_loss("ce")(logits, masks), F.binary_cross_entropy_with_logits(z[:, 0], masks.float())
    )


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_row_9_the_perfect_prediction_scores_0_and_losses_keep_their_bounds(name):
    logits, masks = random_case(ignore=0.2)
    loss = make_loss(name)
    perfect = 100.0 * F.one_hot(masks.where(masks != IGNORE, 0), 4).movedim(-1, 1)
    assert loss(perfect, masks) < 1e-5
    assert loss(logits, masks) > 0.1
    if name in ("dice", "tversky", "lovasz"):
        assert loss(-perfect, masks) <= 1 and loss(-perfect, masks) > 0.9


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_row_10_every_loss_has_a_gradient_that_helps(name):
    logits, masks = random_case(ignore=0.2)
    logits.requires_grad_()
    before = make_loss(name)(logits, masks)
    before.backward()
    assert make_loss(name)(logits - 5 * logits.grad, masks) < before


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_row_11_what_lies_under_ignore_changes_nothing(name):
    logits, masks = random_case(ignore=0.3)
    rubbish = logits.clone()
    rubbish.movedim(1, -1)[masks == IGNORE] = torch.tensor([1e4, -1e4, 0, 5])
    assert torch.equal(make_loss(name)(logits, masks), make_loss(name)(rubbish, masks))
    rubbish.requires_grad_()
    make_loss(name)(rubbish, masks).backward()
    gradient = rubbish.grad.movedim(1, -1)
    assert not gradient[masks == IGNORE].any() and gradient[masks != IGNORE].any()
    first, second = ConfusionMatrix(4), ConfusionMatrix(4)
    first.update(logits.argmax(1), masks)
    second.update(rubbish.argmax(1), masks)
    assert (
        torch.equal(first.counts, second.counts) and first.counts.sum() == (masks != IGNORE).sum()
    )


@pytest.mark.parametrize("name", EVERY_LOSS)
def test_row_27_an_all_ignored_picture_has_loss_0_and_halves_the_mean(name):
    logits, masks = random_case()
    alone = make_loss(name)(logits[:1], masks[:1])
    masks[1] = IGNORE
    both = make_loss(name)(logits, masks)
    assert torch.isclose(both, alone / 2)


def test_an_unknown_loss_is_named():
    with pytest.raises(InputError, match="'ce\\+jaccard', of which 'jaccard'"):
        make_loss("ce+jaccard")


# ---- the machine ----


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries have no such option"
)
def test_memory_that_was_freed_is_kept_for_what_comes_next():
    """In processes of their own: the pages of three times 64 MB are made anew each time, unless they are kept."""
    lines = [
        "import resource, torch, utils",
        "utils.keep_memory() if {keep} else None",
        "for _ in range(20): torch.ones(2 ** 24)",
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt",
        "for _ in range(3): torch.ones(2 ** 24)",
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)",
    ]
    made = {
        keep: int(
            subprocess.run(
                [sys.executable, "-c", "\n".join(lines).format(keep=keep)],
                cwd=Path(utils.__file__).parent,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for keep in (False, True)
    }
    assert made[True] < made[False] / 10, made


# ---- learning rate ----


def test_learning_rate_of_system_a():
    rates = [learning_rate(step, 1e-3, 1e-4, 100, 5e8) for step in range(1251)]
    assert rates[100] == 1e-3 == max(rates)
    assert rates[50] == pytest.approx(2.5e-4)
    assert rates[200] == pytest.approx(5.53e-4, abs=5e-7)
    assert rates[504] > 1.005e-4 and rates[505:] == pytest.approx([1e-4] * 746)
    assert rates[0] == 1e-4


def test_orthogonal_makes_all_directions_about_as_strong():
    torch.manual_seed(0)
    for shape in ((8, 72), (72, 8), (16, 16)):
        left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
        made = utils.orthogonal(
            left * torch.linspace(0.03, 1, min(shape)) @ right
        )  # of very different strength
        strengths = torch.linalg.svdvals(made)
        assert made.shape == shape and 0.5 < strengths.min() and strengths.max() < 1.3
        assert (
            torch.nn.functional.cosine_similarity(made.flatten(), (left @ right).flatten(), dim=0)
            > 0.95
        )  # the nearest orthogonal matrix
    assert not utils.orthogonal(torch.zeros(3, 5)).any()


def test_muon_steps_as_pytorchs_own_does():
    """PyTorch's takes matrices alone, and counts in bf16."""
    torch.manual_seed(0)
    kernel, matrix = (
        torch.nn.Parameter(torch.randn(12, 30, 1, 1)),
        torch.nn.Parameter(torch.empty(12, 30)),
    )
    matrix.data.copy_(kernel.data.flatten(1))
    ours = utils.Muon([kernel], lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon(
        [matrix],
        lr=0.02,
        weight_decay=0.1,
        momentum=0.95,
        nesterov=True,
        adjust_lr_fn="match_rms_adamw",
    )
    start = matrix.detach().clone()
    for _ in range(5):
        matrix.grad = torch.randn(12, 30)
        kernel.grad = matrix.grad.view(12, 30, 1, 1).clone()
        ours.step()
        reference.step()
    way, expected = kernel.detach().flatten(1) - start, matrix.detach() - start
    assert torch.allclose(way, expected, atol=0.03 * expected.abs().max().item())


def test_muon_steps_biases_as_adamw_and_goes_on_from_its_state_to_the_bit():
    torch.manual_seed(0)

    def start():
        return [
            torch.nn.Parameter(torch.linspace(-1, 1, 36).view(4, 3, 3, 1).clone()),
            torch.nn.Parameter(torch.ones(4)),
        ]

    gradients = [[torch.randn(4, 3, 3, 1), torch.randn(4)] for _ in range(6)]

    def walk(optimizer, parameters, steps):
        for step in steps:
            for parameter, gradient in zip(parameters, gradients[step]):
                parameter.grad = gradient.clone()
            optimizer.step()

    straight, plain, split = start(), start(), start()
    walk(utils.Muon(straight, lr=0.1, weight_decay=0.1), straight, range(6))
    walk(torch.optim.AdamW(plain, lr=0.1, weight_decay=0.1), plain, range(6))
    assert torch.allclose(straight[1], plain[1]) and not torch.allclose(
        straight[0], plain[0], atol=0.05
    )
    first = utils.Muon(split, lr=0.1, weight_decay=0.1)
    walk(first, split, range(3))
    second = utils.Muon(split, lr=0.1, weight_decay=0.1)
    second.load_state_dict(first.state_dict())
    walk(second, split, range(3, 6))
    assert torch.equal(straight[0], split[0]) and torch.equal(straight[1], split[1])


def test_cosine_agrees_with_torch_and_ends_at_min_lr():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1e-2)
    reference = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 90, eta_min=1e-4)
    for step in range(10, 101):
        assert learning_rate(step, 1e-2, 1e-4, 10, 1, "cosine", 100) == pytest.approx(
            optimizer.param_groups[0]["lr"]
        )
        optimizer.step()
        reference.step()
    assert learning_rate(100, 1e-2, 1e-4, 10, 1, "cosine", 100) == pytest.approx(1e-4)


def test_plateau_agrees_with_torch():
    losses = [5, 4, 4.5, 4.2, 4, 3, 3.5, 3.6, 3.2, 3.1, 3.3, 2, 2.5, 2.6]
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    reference = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.1, patience=2, threshold=0, min_lr=1e-2
    )
    for i, loss in enumerate(losses, 1):
        reference.step(loss)
        rate = learning_rate(100, 1.0, 1e-2, 10, 1, "plateau", 1000, count_plateaus(losses[:i], 3))
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"])
    assert count_plateaus(losses, 3) == 2


# ---- metrics ----


def test_scores_agree_with_torchmetrics():
    logits, masks = random_case(batch=6, classes=5, size=16, ignore=0.1)
    preds = logits.argmax(1)
    matrix = ConfusionMatrix(5)
    matrix.update(preds, masks)
    scores = matrix.scores()
    jaccard = MulticlassJaccardIndex(5, average="none", ignore_index=IGNORE)
    assert torch.allclose(scores["iou"], jaccard(preds, masks).double(), atol=1e-6)
    valid = masks != IGNORE
    dice_score = DiceScore(5, average="none", input_format="index", aggregation_level="global")
    dice_score.update(preds[valid][None], masks[valid][None])
    assert torch.allclose(scores["dice"], dice_score.compute().double(), atol=1e-6)


def test_scores_worked_by_hand_and_row_8_absent_classes_stay_outside_the_mean():
    """Truth 0 0 1 1, predicted 0 2 1 1: IoU 1/2 and 1; class 2 is predicted once but never true, class 3 neither."""
    matrix = ConfusionMatrix(4)
    matrix.update(torch.tensor([0, 2, 1, 1]), torch.tensor([0, 0, 1, 1]))
    report = matrix.report(["a", "b", "c", "d"])
    assert [entry["iou"] for entry in report["classes"]] == [0.5, 1, None, None]
    assert report["classes"][0]["dice"] == pytest.approx(2 / 3)
    assert report["mean_iou"] == 0.75 and report["pixel_accuracy"] == 0.75
    assert report["baseline"] == {"class": "a", "pixel_accuracy": 0.5, "mean_iou": 0.25}
    lines = utils.format_report({"val": report}).splitlines()
    assert lines[4].split() == ["IoU", "a", "0.5000", "50.0%"] and lines[7].split() == [
        "IoU",
        "d",
        "-",
        "0.0%",
    ]
    assert (
        len(
            {
                line.find(cell) + len(cell)
                for line, cell in ((lines[1], ".7500"), (lines[4], ".5000"), (lines[7], " -"))
            }
        )
        == 1
    )


def test_row_7_the_report_shows_classes_beside_what_the_commonest_would_get():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.zeros(100, dtype=torch.int64), torch.arange(100) // 90)
    text = utils.format_report({"val": matrix.report(["road", "pole"])})
    assert (
        matrix.report(["road", "pole"])["pixel_accuracy"]
        == 0.9
        == matrix.report(["road", "pole"])["baseline"]["pixel_accuracy"]
    )
    assert (
        "IoU pole" in text
        and "0.0000" in text
        and "always the commonest class:" in text
        and "10.0%" in text
    )


def test_row_8_masks_without_any_class_give_dashes_not_numbers():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.zeros(4, dtype=torch.int64), torch.full((4,), IGNORE))
    report = matrix.report(["a", "b"])
    assert (
        report["mean_iou"] is None
        and report["pixel_accuracy"] is None
        and "nan" not in utils.format_report({"val": report}).lower()
    )


@pytest.mark.parametrize("height, width", [(1, 1), (50, 33), (7, 200), (300, 5)])
def test_logits_enlarged_strip_by_strip_equal_torchs(height, width, monkeypatch):
    logits = torch.randn(1, 4, 16, 24)
    strips = list(utils.upsampled(logits, height, width))
    assert torch.allclose(
        torch.cat(strips, 2),
        F.interpolate(logits, size=(height, width), mode="bilinear"),
        atol=1e-5,
    )


def test_a_strip_between_two_rows_of_a_small_picture_may_be_empty():
    logits = torch.randn(1, 3, 40, 5)
    parts = [
        strip
        for first in range(0, 39, 3)
        for strip in utils.upsampled(logits[:, :, first : first + 4], 7, 5, first, 40)
    ]
    assert torch.allclose(
        torch.cat(parts, 2), F.interpolate(logits, size=(7, 5), mode="bilinear"), atol=1e-5
    )


def test_big_logits_come_in_more_than_one_strip():
    logits = torch.randn(1, 9, 8, 8)
    strips = list(utils.upsampled(logits, 3000, 1000))
    assert len(strips) > 1
    assert torch.allclose(
        torch.cat(strips, 2), F.interpolate(logits, size=(3000, 1000), mode="bilinear"), atol=1e-4
    )


def test_row_8_metrics_do_not_change_with_batch_size():
    logits, masks = random_case(batch=8)
    preds, results = logits.argmax(1), []
    for size in (1, 3, 8):
        matrix = ConfusionMatrix(4)
        for i in range(0, 8, size):
            matrix.update(preds[i : i + size], masks[i : i + size])
        results.append(matrix.counts)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


def test_a_split_without_any_class_reports_nothing_instead_of_nan():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.zeros(4, dtype=torch.int64), torch.full((4,), IGNORE))
    report = matrix.report(["a", "b"])
    assert report["mean_iou"] is None and report["pixel_accuracy"] is None


# ---- settings ----


def test_settings_are_parsed_by_the_type_of_the_default():
    module = dict(
        batch=4, rate=0.1, name="x", flag=True, size=(8, 8), widths=(1, 2, 3), _hidden=1, Upper=2
    )
    utils.override(module, ["batch=8", "rate=1", "name=5", "flag=false", "size=32", "widths=16,32"])
    assert module == dict(
        batch=8, rate=1.0, name="5", flag=False, size=(32, 32), widths=(16, 32), _hidden=1, Upper=2
    )
    assert type(module["rate"]) is float


@pytest.mark.parametrize(
    "argument, sentence",
    [
        ("batch_sise=4", "no constant 'batch_sise'; did you mean batch_size"),
        ("batch_size=four", "batch_size is 'four'; expected int"),
        ("batch_size=1.5", "batch_size is '1.5'"),
        ("cache=2", "cache is '2'; expected bool"),
        ("nothing.py", "neither a recipe's file nor"),
    ],
)
def test_wrong_settings_get_one_sentence(argument, sentence):
    with pytest.raises(InputError, match=sentence):
        utils.override(dict(batch_size=4, cache=True, base_lr=0.1), [argument])


def test_a_recipe_sets_constants_and_name_value_after_it_wins(tmp_path):
    (tmp_path / "mine.py").write_text('"""Mine."""\nbatch_size = 7\nbase_lr = 1\n')
    module = dict(batch_size=4, base_lr=0.1)
    utils.override(module, [str(tmp_path / "mine.py"), "batch_size=9"])
    assert module == dict(batch_size=9, base_lr=1.0)
    (tmp_path / "typo.py").write_text("batchsize = 7\n")
    with pytest.raises(InputError, match="did you mean batch_size"):
        utils.override(module, [str(tmp_path / "typo.py")])
    (tmp_path / "broken.py").write_text("batch_size 7\n")
    with pytest.raises(InputError, match="broken.py can't be run as a recipe .SyntaxError"):
        utils.override(module, [str(tmp_path / "broken.py")])
    (tmp_path / "wrong.py").write_text("batch_size = None\n")
    with pytest.raises(InputError, match="batch_size is None; expected int"):
        utils.override(module, [str(tmp_path / "wrong.py")])


# ---- files ----


def test_row_16_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"format": 1, "weights": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(InputError, match="not a checkpoint of this project"):
        utils.load_checkpoint(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [b"", b"no checkpoint at all", None])
def test_row_15_a_torn_or_foreign_checkpoint_is_refused(tmp_path, content):
    path = tmp_path / "x.pth"
    utils.save_checkpoint(
        path,
        {
            "format": 1,
            "model": {},
            "classes": [],
            "image_size": [8, 8],
            "weights": {"a": torch.zeros(1000)},
        },
    )
    assert utils.load_checkpoint(path)["format"] == 1
    path.write_bytes(path.read_bytes()[:2000] if content is None else content)
    with pytest.raises(InputError, match="not a checkpoint of this project"):
        utils.load_checkpoint(path)


def test_a_file_that_another_program_holds_for_a_moment_is_replaced_after_it(tmp_path, monkeypatch):
    real, refusals = utils.os.replace, [PermissionError(13, "in use")] * 2

    def held(*paths):
        if refusals:
            raise refusals.pop()
        real(*paths)

    monkeypatch.setattr(utils.os, "replace", held)
    monkeypatch.setattr(utils.time, "sleep", lambda _: None)
    utils.write_atomic(tmp_path / "a", lambda file: file.write(b"new"))
    assert (tmp_path / "a").read_bytes() == b"new" and not refusals
    refusals += [PermissionError(13, "in use")] * 4
    with pytest.raises(
        InputError, match="a can't be written .in use.; what was there before is as it was"
    ):
        utils.write_atomic(tmp_path / "a", lambda file: file.write(b"newer"))
    assert (tmp_path / "a").read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1


def test_row_15_a_failed_write_leaves_the_previous_file(tmp_path, monkeypatch):
    path = tmp_path / "x.pth"
    utils.write_atomic(path, lambda file: file.write(b"old"))

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(utils.os, "fsync", full)
    with pytest.raises(
        InputError,
        match="x.pth can't be written .No space left on device.; what was there before is as it was",
    ):
        utils.write_atomic(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"old" and list(tmp_path.iterdir()) == [path]


def test_row_6_masks_hold_ids_show_colours_and_keep_255(tmp_path):
    mask = np.array([[0, 1, 2, IGNORE]], np.uint8)
    utils.save_mask(tmp_path / "mask.png", mask, [(0, 0, 0), (255, 0, 0), (0, 0, 255)])
    with Image.open(tmp_path / "mask.png") as picture:
        assert picture.mode == "P" and np.array_equal(np.array(picture), mask)
        assert np.array(picture.convert("RGB"))[0, 1:3].tolist() == [[255, 0, 0], [0, 0, 255]]


# ---- pictures ----


def test_overlay_keeps_the_picture_above_a_legend_of_its_classes():
    image, mask = np.full((50, 300, 3), 200, np.uint8), np.zeros((50, 300), np.uint8)
    mask[:, 150:] = 1
    drawn = utils.overlay(image, mask, ["a", "b", "c"], [(0, 0, 0), (255, 0, 0), (0, 255, 0)])
    assert drawn.shape[0] > 50 and drawn.shape[1] == 300
    assert drawn[0, 0].tolist() == [90, 90, 90] and drawn[0, 200].tolist() == [230, 90, 90]
    below = drawn[50:].reshape(-1, 3).tolist()
    assert [255, 0, 0] in below and [0, 255, 0] not in below
    assert utils.overlay(image[:1, :1], mask[:1, :1], ["a"], [(0, 0, 0)]).shape[1] >= 100


def test_a_legend_of_34_names_stays_inside_its_width():
    assert utils.legend(
        [f"class number {i}" for i in range(34)], [(i, i, i) for i in range(34)], 400
    ).shape[1:] == (400, 3)


def test_words_grow_with_the_sheet_and_can_be_read_where_it_is_shrunk():
    for draw in (
        lambda width: utils.headed(["image"], width),
        lambda width: utils.legend(["road"], [(255, 255, 255)], width),
    ):
        rows = {width: (draw(width) < 128).any(axis=(1, 2)).sum() for width in (900, 2700)}
        assert 2.7 < rows[2700] / rows[900] < 3.3, rows


def test_plots_are_drawn(tmp_path):
    row = {
        "step": 1,
        "learning_rate": 0.1,
        **{
            f"{split}_{kind}": 0.5
            for split in ("train", "val")
            for kind in ("loss", "pixel_accuracy", "mean_iou")
        },
    }
    utils.draw_curves(
        tmp_path / "curves.png", [row, {**row, "step": 2, "val_mean_iou": math.nan}], [0.1, 0.2], 2
    )
    utils.draw_learning_rate(tmp_path / "rate.png", [0.1, 0.2])
    assert utils.legend_of(torch.tensor([0, IGNORE]), ["a"], [(9, 9, 9)]) == (
        ["a", "ignored"],
        [(9, 9, 9), (255, 255, 255)],
    )
    assert utils.legend_of(torch.tensor([0, 1]), ["a"], [(9, 9, 9)]) == (["a"], [(9, 9, 9)])
    utils.draw_confusion(
        tmp_path / "confusion.png", torch.tensor([[3, 1], [0, 0]]), ["a", "b"], "val"
    )
    for name in ("curves", "rate", "confusion"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            assert picture.width > 300 and len(set(picture.convert("L").tobytes())) > 10


def test_learning_shows_the_prediction_of_each_step_beside_image_and_mask(tmp_path):
    rng = np.random.default_rng(0)
    cells = {
        step: [
            [rng.integers(0, 256, (128, 256, 3)).astype(np.uint8) for _ in range(3)]
            for _ in range(2)
        ]
        for step in range(10, 100, 10)
    }
    for step, rows in cells.items():
        utils.save_picture(
            tmp_path / f"step_{step:06d}.png",
            utils.sheet(rows, ["a"], [(0, 0, 0)], ["image", "mask", "prediction"]),
        )
    utils.draw_learning(tmp_path / "learning.png", tmp_path, (128, 256), 2)
    drawn = np.array(Image.open(tmp_path / "learning.png"))
    for row in range(2):
        y = (
            2 * utils.CAPTION + row * 132 + 2
        )  # six columns are wide enough for words of twice the size
        shown = [
            cells[10][row][0],
            cells[10][row][1],
            *(cells[step][row][2] for step in (10, 40, 60, 90)),
        ]
        for column, picture in enumerate(shown):
            assert np.array_equal(
                drawn[y : y + 128, column * 260 + 2 : column * 260 + 258], picture
            )
    assert len(drawn) == 2 * (
        utils.CAPTION + 132 + len(utils.legend(["a"], [(0, 0, 0)], 780))
    )  # the legend's words too
    utils.draw_learning(tmp_path / "none.png", tmp_path / "nowhere", (128, 256), 2)
    large = [np.zeros((300, 640, 3), np.uint8)] * 3
    utils.save_picture(
        tmp_path / "large" / "step_1.png",
        utils.sheet([large], ["a" * 9] * 20, [(9, 9, 9)] * 20, ["image", "mask", "prediction"]),
    )
    utils.draw_learning(tmp_path / "large.png", tmp_path / "large", (300, 640), 1)
    with Image.open(tmp_path / "large.png") as drawn:
        assert (
            drawn.width == 3 * 644
        )  # the legend's, which has its patch of colour at the right end too
        assert (
            np.array(drawn)[-30:, 3 * 260 :].min() < 50
            and np.array(drawn)[30:120, 3 * 260 :].min() == 255
        )
    assert not (tmp_path / "none.png").exists()
