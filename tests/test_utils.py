import math
import warnings

from toolbox.errors import InputError
from toolbox.masks import IGNORE
from toolbox.prepared import weigh_classes
from toolbox.progress import count_plateaus

import pytest
import torch
import torch.nn.functional as F

import train
from utils import (
    ConfusionMatrix,
    cross_entropy,
    dice,
    learning_rate,
    load_checkpoint,
    lovasz,
    make_loss,
    tversky,
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
    """Two pixels of class 0, with probabilities 3/4 and 1/4: overlap 1, sums 1 + 2, Dice 2/3."""
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


# ---- learning rate ----


def test_learning_rate_of_system_a():
    rates = [learning_rate(step, 1e-3, 1e-4, 100, 5e8) for step in range(1251)]
    assert rates[100] == 1e-3 == max(rates)
    assert rates[50] == pytest.approx(2.5e-4)
    assert rates[200] == pytest.approx(5.53e-4, abs=5e-7)
    assert rates[504] > 1.005e-4 and rates[505:] == pytest.approx([1e-4] * 746)
    assert rates[0] == 1e-4


def test_with_decay_factor_0_the_rate_falls_like_a_square_root_to_min_lr_at_the_last_step():
    """A quarter of the way is half of the fall."""
    for base_lr, min_lr in ((1e-2, 1e-4), (0.3, 0.007), (1e-3, 0.0)):
        rates = [learning_rate(step, base_lr, min_lr, 50, 0, "sqrt", 1200) for step in range(1201)]
        assert rates[50] == base_lr == max(rates)
        assert rates[1200] == min(rates[50:]) == pytest.approx(min_lr, rel=1e-12, abs=1e-18)
        assert all(after < before for before, after in zip(rates[50:], rates[51:]))
        for share in (1 / 46, 1 / 4, 9 / 16):
            fall = base_lr - rates[50 + round(1150 * share)]
            share = round(1150 * share) / 1150
            assert fall == pytest.approx((base_lr - min_lr) * share**0.5)
    defaults = {name: getattr(train, name) for name in ("base_lr", "min_lr", "warmup_steps")}
    last = train.training_iterations
    assert learning_rate(last, **defaults, decay_factor=0, last_step=last) == train.min_lr
    assert train.decay_factor == 0


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


def test_row_8_metrics_do_not_change_with_batch_size():
    logits, masks = random_case(batch=8)
    preds, results = logits.argmax(1), []
    for size in (1, 3, 8):
        matrix = ConfusionMatrix(4)
        for i in range(0, 8, size):
            matrix.update(preds[i : i + size], masks[i : i + size])
        results.append(matrix.counts)
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])


# ---- the checkpoint ----


def test_row_16_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"format": 1, "weights": Trap()}, tmp_path / "trap.pth")
    with pytest.raises(InputError, match="not a checkpoint of this project"):
        load_checkpoint(tmp_path / "trap.pth")
    assert not (tmp_path / "sprung").exists()
