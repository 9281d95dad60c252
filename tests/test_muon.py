from toolbox.machine import Machinery, Place
from toolbox.muon import Muon, factors_of, in_parts, make_optimizer

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from model import build_model


def made_orthogonal(matrix, in_bf16=False):
    """By the square of its shorter side."""
    if matrix.shape[0] > matrix.shape[1]:
        return made_orthogonal(matrix.T, in_bf16).T
    return factors_of((matrix @ matrix.T)[None], in_bf16)[0] @ matrix


def test_factors_make_all_directions_about_as_strong():
    torch.manual_seed(0)
    for shape in ((8, 72), (72, 8), (16, 16)):
        left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
        made = made_orthogonal(
            left * torch.linspace(0.03, 1, min(shape)) @ right
        )  # of very different strength
        strengths = torch.linalg.svdvals(made)
        assert made.shape == shape and 0.5 < strengths.min() and strengths.max() < 1.3
        assert (
            torch.nn.functional.cosine_similarity(made.flatten(), (left @ right).flatten(), dim=0)
            > 0.95
        )  # the nearest orthogonal matrix
    assert not made_orthogonal(torch.zeros(3, 5)).any()


@pytest.mark.parametrize("decay", [0.0, 1.0, 3.0])
def test_rounds_in_bf16_stay_bounded_however_weak_most_directions_are(decay):
    """In the early rounds what rounding adds would grow ten thousandfold."""
    torch.manual_seed(0)
    left, _ = torch.linalg.qr(torch.randn(256, 256))
    right, _ = torch.linalg.qr(torch.randn(576, 256))
    matrix = left * torch.arange(1, 257.0) ** -decay @ right.T
    strengths = torch.linalg.svdvals(made_orthogonal(matrix, in_bf16=True))
    assert 0.5 < strengths[0] < 1.8, strengths


def walked(kernels, gradients, **options):
    """Where kernels are after a step for each of the gradients."""
    kernels = [torch.nn.Parameter(kernel.clone()) for kernel in kernels]
    optimizer = Muon(kernels, lr=0.02, weight_decay=0.1)
    for name, value in options.items():
        setattr(optimizer, name, value)
    for each in gradients:
        for kernel, gradient in zip(kernels, each):
            kernel.grad = gradient.clone()
        optimizer.step()
    return [kernel.detach() for kernel in kernels]


def test_kernels_that_go_through_the_rounds_together_step_as_each_does_alone():
    torch.manual_seed(0)
    shapes = [(8, 4, 3, 3), (32, 8, 1, 1), (8, 8, 3, 3), (16, 2, 2, 2), (5, 16, 1, 1)]
    kernels = [torch.randn(shape) for shape in shapes]
    gradients = [[torch.randn(shape) for shape in shapes] for _ in range(3)]
    together = walked(kernels, gradients)
    in_one_batch = walked(kernels, gradients, together=True)
    for i, kernel in enumerate(kernels):
        assert torch.allclose(together[i], in_one_batch[i], atol=1e-5)
        (alone,) = walked([kernel], [[each[i]] for each in gradients])
        assert torch.allclose(together[i], alone, atol=1e-5)
        lying_otherwise = kernel.contiguous(memory_format=torch.channels_last)
        (alone,) = walked([lying_otherwise], [[each[i]] for each in gradients])
        assert torch.allclose(together[i], alone, atol=1e-5)


def test_products_in_bf16_and_parts_of_large_kernels_go_about_the_same_way(monkeypatch):
    torch.manual_seed(0)
    kernels = [torch.randn(128, 32, 3, 3) / 17]
    gradients = [[torch.randn(128, 32, 3, 3)] for _ in range(3)]
    (exact,) = walked(kernels, gradients)
    (rounded,) = walked(kernels, gradients, in_bf16=True)
    standing = [kernels[0].flatten(1).T[..., None, None].contiguous()]
    upright = [
        [one.flatten(1).T[..., None, None].contiguous() for one in each] for each in gradients
    ]
    monkeypatch.setattr("toolbox.muon.LARGEST", 64)
    (parted,) = walked(kernels, gradients)
    (other_way,) = walked(standing, upright)
    assert torch.allclose(other_way[..., 0, 0].T, parted.flatten(1), atol=1e-5)
    assert walked([*kernels, *standing], [[*a, *b] for a, b in zip(gradients, upright)])
    way = exact - kernels[0]
    has_bf16 = Place("cpu", "auto").precision == "bf16"  # elsewhere nothing is rounded
    for other, most in ((rounded, 0.05), (parted, 0.4)):
        least = 0 if has_bf16 or other is parted else -1
        assert least < (other - exact).norm() / way.norm() < most
        assert abs((other - kernels[0]).norm() / way.norm() - 1) < 0.1


@pytest.mark.parametrize(
    ("side", "parts"),
    [
        (1, 1),
        (44, 1),
        (128, 1),
        (192, 2),
        (300, 3),
        (384, 3),
        (1024, 8),
        (129, 3),
        (254, 2),
        (257, 1),
    ],
)
def test_large_kernels_are_taken_in_as_few_parts_as_can_be_alike(side, parts):
    for matrix in (torch.zeros(side, 2 * side), torch.zeros(2 * side, side)):
        found = in_parts(matrix)
        assert len(found) == parts and len({part.shape for part in found}) == 1
        dimension = matrix.shape.index(side)
        assert torch.equal(torch.cat(list(found), dimension), matrix)


def test_products_are_in_bf16_only_where_the_net_is():
    for precision in ("fp32", "bf16"):
        place = Place("cpu", precision)
        model = build_model("unet", num_classes=2, features=[4])
        optimizer = make_optimizer("muon", model, 0.1, 0.1)
        Machinery(model, optimizer, place, compile_model=False)
        assert optimizer.in_bf16 == (precision == "bf16")
        assert not optimizer.together


def test_a_gpu_is_given_few_products():
    """Kernels of several sizes: one batch of them takes the rounds of one."""

    class Counted(TorchDispatchMode):
        products = 0

        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            self.products += "bmm" in str(function)
            return function(*args, **(kwargs or {}))

    place = Place("cpu", "fp32")
    model = build_model("unet", num_classes=2, features=[4, 8])
    counts = []
    for kind in ("cpu", "cuda"):
        place.device = torch.device(kind)  # by name alone
        optimizer = make_optimizer("muon", model, 0.1, 0.1)
        Machinery(model, optimizer, place, compile_model=False)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        with Counted() as counted:
            optimizer.step()
        counts.append(counted.products)
    sides = {min(len(one), one[0].numel()) for one in model.parameters() if one.ndim == 4}
    assert len(sides) > 2 and counts[0] == len(sides) * counts[1]


def test_muon_steps_as_pytorchs_own_does():
    """PyTorch's takes matrices alone, and counts in bf16."""
    torch.manual_seed(0)
    kernel, matrix = (
        torch.nn.Parameter(torch.randn(12, 30, 1, 1)),
        torch.nn.Parameter(torch.empty(12, 30)),
    )
    matrix.data.copy_(kernel.data.flatten(1))
    ours = Muon([kernel], lr=0.02, weight_decay=0.1)
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
    walk(Muon(straight, lr=0.1, weight_decay=0.1), straight, range(6))
    walk(torch.optim.AdamW(plain, lr=0.1, weight_decay=0.1), plain, range(6))
    assert torch.allclose(straight[1], plain[1]) and not torch.allclose(
        straight[0], plain[0], atol=0.05
    )
    first = Muon(split, lr=0.1, weight_decay=0.1)
    walk(first, split, range(3))
    second = Muon(split, lr=0.1, weight_decay=0.1)
    second.load_state_dict(first.state_dict())
    walk(second, split, range(3, 6))
    assert torch.equal(straight[0], split[0]) and torch.equal(straight[1], split[1])
