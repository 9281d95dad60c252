"""Muon, the default optimizer. Who wants the usual one first sets optimizer = "adamw".

Where its numbers come from: Jordan et al., "Muon: An optimizer for hidden layers in neural
networks" (2024), found the three coefficients of the rounds by search, such that small singular
values grow fast and all end between about 0.7 and 1.2, and took 0.95 for the momentum, looking
one step ahead (Nesterov). Liu et al., "Muon is Scalable for LLM Training" (2025), measured that
AdamW's steps are 0.2 long on average for each weight, and made Muon's as long: 0.2 · √(the
matrix's longer side), as an orthogonal matrix of sides n ≤ m has n ones in n · m numbers.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import nn

MOMENTUM = 0.95
LINEAR, CUBIC, QUINTIC = 3.4445, -4.775, 2.0315
LENGTH = 0.2  # of AdamW's steps, for each weight
ROUNDS = 5
LATE = 2  # rounds at the end that may be in bf16
LARGE = 128  # side from which on the products take longer than the calls to them
LARGEST = 128  # side of a part, as the work grows with its third power


@contextmanager
def rounded(is_so: bool) -> Iterator[None]:
    """Products on the CPU are of numbers rounded to bf16, and added up in fp32."""
    if not is_so:
        yield
        return
    settings = torch.backends.mkldnn.matmul
    before, settings.fp32_precision = settings.fp32_precision, "bf16"
    try:
        yield
    finally:
        settings.fp32_precision = before


def growth_of(square: torch.Tensor) -> torch.Tensor:
    """3.4445 - 4.775 square + 2.0315 square², of each matrix (N, n, n)."""
    growth = torch.baddbmm(square, square, square, beta=CUBIC, alpha=QUINTIC)
    growth.diagonal(dim1=1, dim2=2).add_(LINEAR)
    return growth


def factors_of(squares: torch.Tensor, in_bf16: bool = False) -> torch.Tensor:
    """For the squares X Xᵀ (N, n, n) of matrices: what X is multiplied by to have the same
    directions, all about equally strong.

    X's singular values, from 0 to 1 once it is divided by its norm, come to lie near 1: each of
    five rounds takes a value s to 3.4445 s - 4.775 s³ + 2.0315 s⁵. The squares are small, so that
    this is a third of the work of multiplying X each time. What rounding does to a square grows
    with every round that follows: only the last are in bf16.
    """
    norms = squares.diagonal(dim1=1, dim2=2).sum(1).sqrt() + 1e-7
    norms = norms[:, None, None]
    square = squares / norms**2
    factor = growth = growth_of(square)
    for number in range(1, ROUNDS):
        with rounded(in_bf16 and number >= ROUNDS - LATE):
            square = growth @ square @ growth
            growth = growth_of(square)
            factor = growth @ factor
    return factor / norms


def in_order(tensor: torch.Tensor, kernel: torch.Tensor) -> torch.Tensor:
    """A kernel, or what is kept of it, as the kernel lies in memory: it is copied nowhere then, and
    the order of the inputs makes no difference to a matrix's directions."""
    if kernel.is_contiguous(memory_format=torch.channels_last):
        return tensor.permute(0, 2, 3, 1)
    return tensor


def shorter_side(kernel: torch.Tensor) -> int:
    return min(len(kernel), kernel[0].numel())


def is_lying(matrix: torch.Tensor) -> bool:
    return matrix.shape[0] <= matrix.shape[1]


def in_parts(matrix: torch.Tensor) -> Sequence[torch.Tensor]:
    """A large matrix along its shorter side, each part to be made orthogonal by itself: as few
    parts as can be alike, or the whole where twice as many would not do."""
    side = 0 if is_lying(matrix) else 1
    length = matrix.shape[side]
    fewest = math.ceil(length / LARGEST)
    parts = next((n for n in range(fewest, 2 * fewest + 1) if length % n == 0), 1)
    return matrix.split(length // parts, side)


class Muon(torch.optim.AdamW):
    """Muon for the kernels of convolutions, AdamW for all else.

    A kernel's gradient, as a matrix of output channels by inputs, has a few strong directions and
    many weak ones, which else hardly move. Made orthogonal, the step goes as far in each. It is as
    long as AdamW's usually is, so that both take the same learning rates.
    """

    in_bf16 = False  # products of large matrices, where the chip is faster so: the net is too

    def __init__(self, parameters: Iterable[torch.Tensor], lr: float, weight_decay: float):
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, fused=True)
        # Fused AdamW leaves out steps that are not finite itself; here fp16's scaler has to.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            kernels = [one for one in group["params"] if one.ndim == 4 and one.grad is not None]
            for side in sorted({shorter_side(kernel) for kernel in kernels}):
                alike = [kernel for kernel in kernels if shorter_side(kernel) == side]
                pays = self.in_bf16 and side >= LARGE
                self.step_kernels(alike, group["lr"], group["weight_decay"], pays)
        super().step()

    def step_kernels(
        self, kernels: Sequence, rate: float, weight_decay: float, in_bf16: bool
    ) -> None:
        """Kernels with the same shorter side go through the rounds together."""
        pairs = []  # parts of kernels, as matrices, and the momentum of each
        for kernel in kernels:
            matrix = in_order(kernel, kernel).view(len(kernel), -1)
            ahead = in_order(self.look_ahead(kernel), kernel).flatten(1)
            pairs += zip(in_parts(matrix), in_parts(ahead))
            kernel.grad = None  # AdamW passes over what has none
        with rounded(in_bf16):
            squares = torch.stack([x @ x.T if is_lying(x) else x.T @ x for _, x in pairs])
        factors = factors_of(squares, in_bf16)
        for (part, x), factor in zip(pairs, factors):
            # Not by addmm_'s own alpha and beta: the CPU's library would keep code made for each.
            factor *= -LENGTH * rate * max(x.shape) ** 0.5
            part *= 1 - rate * weight_decay
            with rounded(in_bf16):
                part.addmm_(*((factor, x) if is_lying(x) else (x, factor)))

    def look_ahead(self, kernel: torch.Tensor) -> torch.Tensor:
        """The momentum, one step on."""
        state = self.state[kernel]
        if not state:  # AdamW wants to find a step
            state.update(step=torch.zeros(()), momentum=torch.zeros_like(kernel))
        mean = state["momentum"].lerp_(kernel.grad, 1 - MOMENTUM)
        return kernel.grad.lerp(mean, MOMENTUM)


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
