import subprocess
import sys

import pytest
import torch
from torch import nn

from conftest import ROOT
from model import DoubleConv, UNet, build_model


@pytest.mark.parametrize("height, width", [(1, 1), (1, 33), (16, 16), (17, 31), (50, 3)])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_any_size_comes_back(height, width, dtype):
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
    with pytest.raises(ValueError, match="num_classes is 1"):
        UNet(1)


def test_other_channel_counts_work():
    assert UNet(3, in_channels=5, features=(4,)).eval()(torch.zeros(1, 5, 9, 9)).shape == (1, 3, 9, 9)


def test_features_that_do_not_double_work():
    assert UNet(4, features=(6, 5, 9)).eval()(torch.zeros(1, 3, 20, 20)).shape == (1, 4, 20, 20)


def test_row_26_dropout_and_batch_norm_rest_in_eval_mode():
    model = UNet(3, features=(4, 8), dropout=.5)
    images = torch.rand(2, 3, 16, 16) * 255
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


def test_double_conv_has_what_it_says():
    kinds = [type(layer) for layer in DoubleConv(3, 8, dropout=.1)]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout] * 2
    assert nn.Dropout not in [type(layer) for layer in DoubleConv(3, 8)]


def test_a_pixel_sees_as_far_as_the_levels_say():
    """With two levels a change far away reaches a pixel, which no single DoubleConv (5×5) could bring."""
    torch.manual_seed(0)
    model = UNet(3, features=(8, 8)).eval()
    images = torch.full((1, 3, 32, 32), 100.0)
    changed = images.clone()
    changed[..., 16 + 8, 16] = 255
    assert not torch.equal(model(images)[..., 16, 16], model(changed)[..., 16, 16])


def test_build_model_names_the_choices():
    with pytest.raises(ValueError, match="'vnet'; expected one of unet"):
        build_model("vnet", num_classes=3)


def test_system_a_has_31_million_parameters_and_193_gflop():
    done = subprocess.run([sys.executable, "model.py", "recipes/cityscapes.py"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    total = done.stdout.splitlines()[-1]
    assert "31,045,016" in total
    assert abs(float(total.split()[-1]) - 193) < 1
    assert "24 × 256 × 512" in done.stdout
