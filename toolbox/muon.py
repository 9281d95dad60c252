"""Muon, the default optimizer. Who wants the usual one first sets optimizer = "adamw".

Where its numbers come from: Jordan et al., "Muon: An optimizer for hidden layers in neural
networks" (2024), found the three coefficients of the rounds by search, such that small singular
values grow fast and all end between about 0.7 and 1.2, and took 0.95 for the momentum, looking
one step ahead (Nesterov). Liu et al., "Muon is Scalable for LLM Training" (2025), measured that
AdamW's steps are 0.2 long on average for each weight, and made Muon's as long: 0.2 · √(the
matrix's longer side), as an orthogonal matrix of sides n ≤ m has n ones in n · m numbers.
"""

import math
from collections import defaultdict
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


def stacked(squares: Sequence[torch.Tensor]) -> torch.Tensor:
    """Squares as one batch, of the largest's size: what is 0 around one adds nothing to it."""
    largest = max(map(len, squares))
    if all(len(square) == largest for square in squares):
        return torch.stack(squares)
    room = squares[0].new_zeros(len(squares), largest, largest)
    for place, square in zip(room, squares):
        place[: len(square), : len(square)] = square
    return room


class Muon(torch.optim.AdamW):
    """Muon for the kernels of convolutions, AdamW for all else.

    A kernel's gradient, as a matrix of output channels by inputs, has a few strong directions and
    many weak ones, which else hardly move. Made orthogonal, the step goes as far in each. It is as
    long as AdamW's usually is, so that both take the same learning rates.
    """

    in_bf16 = False  # products of large matrices, where the chip is faster so: the net is too
    together = False  # all sizes in one batch, where starting a product takes longer than doing it

    def __init__(self, parameters: Iterable[torch.Tensor], lr: float, weight_decay: float):
        super().__init__(parameters, lr=lr, weight_decay=weight_decay, fused=True)
        # Fused AdamW leaves out steps that are not finite itself; here fp16's scaler has to.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        for group in self.param_groups:
            kernels = [one for one in group["params"] if one.ndim == 4 and one.grad is not None]
            alike = defaultdict(list)
            for kernel in kernels:
                side = 0 if self.together else shorter_side(kernel)  # 0: whatever it is
                alike[side].append(kernel)
            for side in sorted(alike):
                pays = self.in_bf16 and side >= LARGE
                self.step_kernels(alike[side], group["lr"], group["weight_decay"], pays)
        super().step()

    def step_kernels(
        self, kernels: Sequence, rate: float, weight_decay: float, in_bf16: bool
    ) -> None:
        """These kernels go through the rounds together."""
        parts, ahead = [], []  # of kernels, as matrices, and the momentum of each
        for kernel, momentum in zip(kernels, self.look_ahead(kernels)):
            parts += in_parts(in_order(kernel, kernel).view(len(kernel), -1))
            ahead += in_parts(in_order(momentum, kernel).flatten(1))
            kernel.grad = None  # AdamW passes over what has none
        with rounded(in_bf16):
            squares = [x @ x.T if is_lying(x) else x.T @ x for x in ahead]
        factors = list(factors_of(stacked(squares), in_bf16))
        # Not by addmm_'s own alpha and beta: the CPU's library would keep code made for each.
        torch._foreach_mul_(factors, [-LENGTH * rate * max(x.shape) ** 0.5 for x in ahead])
        torch._foreach_mul_(parts, 1 - rate * weight_decay)
        for part, x, square, factor in zip(parts, ahead, squares, factors):
            factor = factor[: len(square), : len(square)]
            left, right = (factor, x) if is_lying(x) else (x, factor)
            with rounded(in_bf16):
                part.addmm_(left, right)

    def look_ahead(self, kernels: Sequence) -> Sequence[torch.Tensor]:
        """The momentum of each, one step on, in the place of its gradient."""
        for kernel in kernels:
            if not self.state[kernel]:  # AdamW wants to find a step
                momentum = torch.zeros_like(kernel)
                self.state[kernel].update(step=torch.zeros(()), momentum=momentum)
        gradients = [kernel.grad for kernel in kernels]
        means = [self.state[kernel]["momentum"] for kernel in kernels]
        torch._foreach_lerp_(means, gradients, 1 - MOMENTUM)
        torch._foreach_lerp_(gradients, means, MOMENTUM)
        return gradients


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
