"""The table of python model.py: each part of a net with its output's shape, parameters and work."""

import torch
from torch import nn


def count_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """The parts that learn: a model's children, and the children of its lists of parts."""
    parts = {}
    for name, child in model.named_children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            for key, part in child.named_children():
                parts[f"{name}.{key}"] = part
        else:
            parts[name] = child
    return {name: part for name, part in parts.items() if count_parameters(part)}


def print_stages(model: nn.Module, height: int, width: int) -> None:
    """Each part with its output's shape, its parameters and its work on one picture."""
    from torch.utils.flop_counter import (
        FlopCounterMode,
    )  # slow to import; the scripts don't need it

    model = model.to("meta").eval()  # shapes without numbers: nothing is computed
    parts, shapes = parts_of(model), {}
    for name, part in parts.items():

        def note(_, __, out, name=name):
            shapes[name] = out.shape[1:]

        part.register_forward_hook(note)
    channels = model.mean.shape[1]
    picture = torch.empty(1, channels, height, width, dtype=torch.uint8, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(picture)
    work = {name: sum(count.values()) for name, count in counter.get_flop_counts().items()}

    print(f"{'stage':<12} {'channels × height × width':>26} {'parameters':>12} {'GFLOP':>8}")
    for name, shape in shapes.items():  # in the order of the forward pass
        flop = work[f"{type(model).__name__}.{name}"]
        print_line(name, " × ".join(map(str, shape)), count_parameters(parts[name]), flop)
    total = counter.get_total_flops()
    print_line("all", f"{height} × {width} picture", count_parameters(model), total)


def print_line(name: str, shape: str, parameters: int, flop: int) -> None:
    print(f"{name:<12} {shape:>26} {parameters:>12,} {flop / 1e9:>8.2f}")
