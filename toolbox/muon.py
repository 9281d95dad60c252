"""Muon, the default optimizer. Who wants the usual one first sets optimizer = "adamw".

Where its numbers come from: Jordan et al., "Muon: An optimizer for hidden layers in neural
networks" (2024), found the three coefficients of the rounds by search, such that small singular
values grow fast and all end between about 0.7 and 1.2, and took 0.95 for the momentum, looking
one step ahead (Nesterov). Liu et al., "Muon is Scalable for LLM Training" (2025), measured that
AdamW's steps are 0.2 long on average for each weight, and made Muon's as long: 0.2 · √(the
matrix's longer side), as an orthogonal matrix of sides n ≤ m has n ones in n · m numbers.
"""

from collections.abc import Iterable
from functools import partial

import torch
from torch import nn

MOMENTUM = 0.95
LINEAR, CUBIC, QUINTIC = 3.4445, -4.775, 2.0315
LENGTH = 0.2  # of AdamW's steps, for each weight


def growth_of(square: torch.Tensor) -> torch.Tensor:
    """3.4445 - 4.775 square + 2.0315 square²."""
    growth = torch.addmm(square, square, square, beta=CUBIC, alpha=QUINTIC)
    growth.diagonal().add_(LINEAR)
    return growth


def orthogonal(matrix: torch.Tensor) -> torch.Tensor:
    """A matrix with the same directions, all about equally strong.

    Its singular values, from 0 to 1 at first, come to lie near 1: each of five rounds takes a
    value s to 3.4445 s - 4.775 s³ + 2.0315 s⁵. What the rounds multiply the matrix by is found
    on its square alone, which is small: a third of the work of multiplying the matrix each time.
    """
    x = matrix / (matrix.norm() + 1e-7)
    x = x if len(x) <= x.shape[1] else x.T
    square = x @ x.T
    factor = growth = growth_of(square)
    for _ in range(4):
        square = growth @ square @ growth
        growth = growth_of(square)
        factor = growth @ factor
    x = factor @ x
    return x if x.shape == matrix.shape else x.T


class Muon(torch.optim.AdamW):
    """Muon for the kernels of convolutions, AdamW for all else.

    A kernel's gradient, as a matrix of output channels by inputs, has a few strong directions and
    many weak ones, which else hardly move. Made orthogonal, the step goes as far in each. It is as
    long as AdamW's usually is, so that both take the same learning rates.
    """

    def __init__(self, parameters: Iterable[torch.Tensor], lr: float, weight_decay: float):
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, fused=True)
        # Fused AdamW leaves out steps that are not finite itself; here fp16's scaler has to.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            for kernel in group["params"]:
                if kernel.ndim == 4 and kernel.grad is not None:
                    self.step_kernel(kernel, group["lr"], group["weight_decay"])
                    kernel.grad = None  # AdamW passes over what has none
        super().step()

    def step_kernel(self, kernel: torch.Tensor, rate: float, weight_decay: float) -> None:
        state = self.state[kernel]
        if not state:  # AdamW wants to find a step
            state.update(step=torch.zeros(()), momentum=torch.zeros_like(kernel))
        mean = state["momentum"].lerp_(kernel.grad, 1 - MOMENTUM)
        ahead = kernel.grad.lerp(mean, MOMENTUM).flatten(1)
        length = LENGTH * rate * max(ahead.shape) ** 0.5
        kernel.mul_(1 - rate * weight_decay)
        kernel.add_(orthogonal(ahead).view(kernel.shape), alpha=-length)


def state_names(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> set[str]:
    """What is kept of a parameter from step to step."""
    if isinstance(optimizer, Muon) and parameter.ndim == 4:
        return {"step", "momentum"}
    return {"step", "exp_avg", "exp_avg_sq"}


def make_optimizer(
    name: str, model: nn.Module, rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    kinds = {"muon": Muon, "adamw": partial(torch.optim.AdamW, fused=True)}  # one kernel for all
    return kinds[name](model.parameters(), lr=rate, weight_decay=weight_decay)
