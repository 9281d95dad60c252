from toolbox.muon import Muon, orthogonal

import torch


def test_orthogonal_makes_all_directions_about_as_strong():
    torch.manual_seed(0)
    for shape in ((8, 72), (72, 8), (16, 16)):
        left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
        made = orthogonal(
            left * torch.linspace(0.03, 1, min(shape)) @ right
        )  # of very different strength
        strengths = torch.linalg.svdvals(made)
        assert made.shape == shape and 0.5 < strengths.min() and strengths.max() < 1.3
        assert (
            torch.nn.functional.cosine_similarity(made.flatten(), (left @ right).flatten(), dim=0)
            > 0.95
        )  # the nearest orthogonal matrix
    assert not orthogonal(torch.zeros(3, 5)).any()


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
