import subprocess
import sys
from collections import Counter

from toolbox.errors import InputError
from toolbox.layers import QuickDropout, margin, wake_dropout
from toolbox.machine import Place
from toolbox.stages import count_parameters

import pytest
import torch
from conftest import ROOT
from torch import nn

from model import DoubleConv, NestedUNet, UNet, build_model


@pytest.mark.parametrize("height, width", [(1, 1), (1, 33), (16, 16), (17, 31), (50, 3)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_row_19_any_size_comes_back(height, width, dtype):
    model = UNet(3, features=(4, 8, 8, 8)).eval()
    logits = model(torch.randint(0, 256, (2, 3, height, width)).to(dtype))
    assert logits.shape == (2, 3, height, width) and logits.dtype == torch.float32


def test_row_18_scaling_is_inside_and_uint8_equals_float():
    model = UNet(3, features=(4,)).eval()
    images = torch.randint(0, 256, (1, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(model(images), model(images.float()))
    assert {"mean", "std"} <= model.state_dict().keys()
    seen = []
    model.downs[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.full((1, 3, 8, 8), 255.0))
    assert 2 < seen[0].max() < 3  # white is a bit over two spreads above the mean, not 255


def test_two_classes_give_logits_0_and_z():
    model = UNet(2, features=(4,)).eval()
    logits = model(torch.rand(2, 3, 8, 8) * 255)
    assert model.head.out_channels == 1 and logits.shape[1] == 2
    assert (logits[:, 0] == 0).all() and logits[:, 1].abs().sum() > 0


def test_a_class_count_below_two_is_refused():
    with pytest.raises(InputError, match="num_classes is 1"):
        UNet(1)


def test_other_channel_counts_work():
    assert UNet(3, in_channels=5, features=(4,)).eval()(torch.zeros(1, 5, 9, 9)).shape == (
        1,
        3,
        9,
        9,
    )


def test_features_that_do_not_double_work():
    assert UNet(4, features=(6, 5, 9)).eval()(torch.zeros(1, 3, 20, 20)).shape == (1, 4, 20, 20)


def test_row_26_dropout_and_batch_norm_rest_in_eval_mode():
    model = UNet(3, features=(4, 8), dropout=0.5)
    images = torch.rand(2, 3, 16, 16) * 255
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_on_cpus_drops_by_chance_what_it_says_and_keeps_the_mean(dtype):
    torch.manual_seed(0)
    dropout, dropped = QuickDropout(0.1), round(0.1 * 128) / 128
    x = torch.ones(8, 16, 64, 63, dtype=dtype).contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    y = dropout(x)
    y.sum().backward()
    y = y.detach()
    assert y.dtype == dtype and y.stride() == x.stride()
    assert torch.equal(x.grad, y)  # what is dropped has no gradient; what is kept, its factor
    assert len(y.unique()) == 2 and y.float().mean() == pytest.approx(1, abs=0.01)
    in_memory = (y == 0).permute(0, 2, 3, 1).float().reshape(-1, 8)  # as they share 64 bits
    shares = torch.cat([in_memory.mean(dim=0), (y == 0).float().mean(dim=(0, 2, 3))])
    assert (shares - dropped).abs().max() < 0.01, shares
    # Neighbours are dropped together as often as chance has it.
    together = (in_memory[:, :-1] * in_memory[:, 1:]).mean()
    assert together == pytest.approx(dropped**2, abs=0.002)
    assert not torch.equal(dropout(x), y)
    torch.manual_seed(0)
    assert torch.equal(dropout(x), y)
    assert dropout.eval()(x) is x
    strange = torch.ones(3, 5, 7, dtype=dtype).transpose(0, 2)[:, ::2]
    assert QuickDropout(0.999)(strange).shape == strange.shape
    assert not QuickDropout(0.001)(x).all()  # so small a share is not none


def settle(model):
    return Place("cpu", "fp32").settle(model)


@pytest.mark.parametrize("ready", [settle, wake_dropout])
def test_a_net_on_a_cpu_drops_quickly_and_is_the_same_else(ready):
    model = UNet(3, features=(4, 8), dropout=(0.0, 0.25))
    before = model.state_dict().keys()
    assert ready(model)
    kinds = Counter(type(module) for module in model.modules())
    assert kinds[QuickDropout] == 5 and not kinds[nn.Dropout]
    assert model.state_dict().keys() == before
    assert {one.p for one in model.modules() if isinstance(one, nn.Dropout)} == {0.25}


def test_double_conv_has_what_it_says():
    kinds = [type(layer) for layer in DoubleConv(3, 8, dropout=0.1)]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout] * 2
    assert nn.Dropout not in [type(layer) for layer in DoubleConv(3, 8)]


def test_a_pixel_sees_as_far_as_the_levels_say():
    """With two levels a change far away reaches a pixel: no single DoubleConv (5×5) could do it."""
    torch.manual_seed(0)
    model = UNet(3, features=(8, 8)).eval()
    images = torch.full((1, 3, 32, 32), 100.0)
    changed = images.clone()
    changed[..., 16 + 8, 16] = 255
    assert not torch.equal(model(images)[..., 16, 16], model(changed)[..., 16, 16])


OPTIONS = [
    dict(),
    dict(bias=False),
    dict(activation="leaky_relu", dropout=(0.2, 0.5)),
    dict(down="conv"),
    dict(up="nearest"),
    dict(padded=False),
    dict(patch=2),
    dict(padded=False, down="conv", up="nearest"),
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("architecture", ["unet", "unet++"])
def test_every_block_option_gives_back_the_size_it_got_and_learns(architecture, options):
    if architecture == "unet++" and "padded" in options:
        pytest.skip("unet++ is padded always")
    torch.manual_seed(0)
    model = build_model(architecture, num_classes=3, features=(8, 16), **options)
    images, masks = (
        torch.randint(0, 256, (2, 3, 19, 33)),
        torch.randint(0, 3, (2, 1, 1)).expand(2, 19, 33),
    )
    optimizer, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(12):
        logits = model(images)
        assert logits.shape == (2, 3, 19, 33)
        losses.append(nn.functional.cross_entropy(logits, masks))
        optimizer.zero_grad()
        losses[-1].backward()
        optimizer.step()
    assert min(losses) < 0.7 * losses[0]
    assert all(parameter.grad is not None for parameter in model.parameters())
    for size in ((1, 1), (5, 64)):
        assert model.eval()(torch.zeros(1, 3, *size)).shape == (1, 3, *size)


def test_unpadded_the_inner_u_gives_the_papers_388_from_572():
    with torch.device("meta"):
        model = UNet(2, padded=False)
        assert model.inner(torch.empty(1, 3, 572, 572)).shape == (1, 1, 388, 388)
        assert margin(388, model.multiple(), padded=False) == (92, 92)


@pytest.mark.parametrize("patch, padded", [(1, True), (1, False), (2, True), (3, True)])
@pytest.mark.parametrize("levels", [1, 2, 3, 4])
def test_a_pixel_of_the_logits_lies_over_its_pixel_of_the_picture(levels, patch, padded):
    """With kernels that pass on their middle, along the top skip alone, the logits are the scaled
    picture itself."""
    model = UNet(3, features=(9,) * levels, padded=padded, patch=patch).eval()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    for part in (model.downs[0], model.joins[-1]):
        for conv, norm in ((part[0], part[1]), (part[3], part[4])):
            for place in range(patch**2):  # of a pixel in its square
                conv.weight.data[place, place, 1, 1] = 1
            nn.init.ones_(norm.weight)
    model.head.weight.data[:] = torch.eye(patch**2, 9).repeat(3, 1)[..., None, None]
    images = torch.rand(1, 3, 37, 50) * 255
    expected = ((images - model.mean) / model.std)[:, :1].clamp(min=0).expand(1, 3, 37, 50)
    assert torch.allclose(model(images), expected, atol=1e-3)


def test_unpadded_the_border_is_the_pictures_mirror_image():
    model = UNet(3, features=(4,), padded=False).eval()
    seen = []
    model.downs[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    images = torch.rand(1, 3, 30, 30) * 255
    model(images)
    before, _ = margin(30, model.multiple(), padded=False)
    assert torch.equal(
        seen[0][..., before - 3, before : before + 30],
        seen[0][..., before + 3, before : before + 30],
    )


def test_nearest_then_1x1_is_the_same_in_either_order():
    model = UNet(3, features=(4, 8), up="nearest")
    conv, grow = model.ups[0]
    x = torch.rand(2, 16, 5, 6)
    assert torch.allclose(grow(conv(x)), conv(grow(x)), atol=1e-6)


def test_dropout_before_the_activation_is_the_same_as_after():
    x, dropped = torch.randn(4, 8, 9, 9), []
    for order in ((nn.LeakyReLU(), nn.Dropout(0.5)), (nn.Dropout(0.5), nn.LeakyReLU())):
        torch.manual_seed(0)
        dropped.append(nn.Sequential(*order)(x))
    assert torch.allclose(*dropped)


def test_unetpp_has_the_published_nodes_and_parameters():
    """The paper's U-Net++ of widths 32 to 512 has 9.04 million parameters; counted by hand with
    our batch norm: 9,049,572 at 4 outputs."""

    def double(a, b):
        return 9 * a * b + 9 * b * b + 2 * b + 4 * b

    widths = (32, 64, 128, 256, 512)
    expected = sum(double(a, b) for a, b in zip((3, *widths), widths)) + 4 * 32 + 4
    for i in range(4):
        for j in range(1, 5 - i):
            expected += (
                4 * widths[i + 1] * widths[i] + widths[i] + double((j + 1) * widths[i], widths[i])
            )
    model = NestedUNet(4, features=(32, 64, 128, 256))
    assert count_parameters(model) == expected == 9_049_572 and len(model.nodes) == 10


def test_deep_supervision_has_a_head_for_each_depth_and_predicts_their_mean():
    torch.manual_seed(0)
    model = NestedUNet(3, features=(4, 8, 8), deep_supervision=True)
    images = torch.rand(2, 3, 16, 16) * 255
    assert model(images).shape == (6, 3, 16, 16)
    model.eval()
    logits, rows = model(images), []
    for head in model.heads:
        head.register_forward_hook(lambda _, __, out: rows.append(out))
    model(images)
    assert len(rows) == 3 and torch.allclose(logits, sum(rows) / 3, atol=1e-6)


@pytest.mark.parametrize(
    "architecture, options, sentence",
    [
        ("unet", dict(activation="gelu"), "activation is 'gelu'; expected relu or leaky_relu"),
        ("unet", dict(down="stride"), "down is 'stride'"),
        ("unet", dict(up="bilinear"), "up is 'bilinear'"),
        ("unet", dict(deep_supervision=True), "only unet\\+\\+"),
        ("unet++", dict(padded=False), "padded is False"),
    ],
)
def test_options_that_do_not_exist_are_named(architecture, options, sentence):
    with pytest.raises(InputError, match=sentence):
        build_model(architecture, num_classes=3, **options)


def test_system_b_has_31_037_633_parameters_at_one_output():
    with torch.device("meta"):
        assert count_parameters(UNet(2, bias=False)) == 31_037_633


def test_build_model_names_the_choices():
    with pytest.raises(InputError, match="'vnet'; expected one of unet"):
        build_model("vnet", num_classes=3)


def test_system_a_has_31_million_parameters_and_193_gflop():
    done = subprocess.run(
        [sys.executable, "model.py", "recipes/cityscapes.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    total = done.stdout.splitlines()[-1]
    assert "31,045,016" in total
    assert abs(float(total.split()[-1]) - 193) < 1
    assert "24 × 256 × 512" in done.stdout
