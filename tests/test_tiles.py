from toolbox.tiles import upsampled

import pytest
import torch
import torch.nn.functional as F


@pytest.mark.parametrize("height, width", [(1, 1), (50, 33), (7, 200), (300, 5)])
def test_logits_enlarged_strip_by_strip_equal_torchs(height, width, monkeypatch):
    logits = torch.randn(1, 4, 16, 24)
    strips = list(upsampled(logits, height, width))
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
        for strip in upsampled(logits[:, :, first : first + 4], 7, 5, first, 40)
    ]
    assert torch.allclose(
        torch.cat(parts, 2), F.interpolate(logits, size=(7, 5), mode="bilinear"), atol=1e-5
    )


def test_big_logits_come_in_more_than_one_strip():
    logits = torch.randn(1, 9, 8, 8)
    strips = list(upsampled(logits, 3000, 1000))
    assert len(strips) > 1
    assert torch.allclose(
        torch.cat(strips, 2), F.interpolate(logits, size=(3000, 1000), mode="bilinear"), atol=1e-4
    )
