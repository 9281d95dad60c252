"""The machine: where the net runs and in which precision, and what signals reach it."""

import math
import os
import shutil
import signal
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from toolbox.errors import InputError
from toolbox.layers import quicken_dropout
from toolbox.memory import bound_memory, keep_memory
from toolbox.muon import Muon
from toolbox.processes import cores, processes, shared_by_all

import torch
from torch import nn

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
MOST_SKIPPED = 20  # steps in a row that fp16's scaler may leave out


class Place:
    """Where the net runs and in which precision."""

    def __init__(self, device: str, precision: str):
        self.device = self.find_device(device)
        self.precision = self.best_precision() if precision == "auto" else precision
        is_half = self.precision == "fp16"
        if self.precision not in DTYPES or (is_half and self.device.type == "cpu"):
            raise InputError(
                f"precision is {precision!r}; expected auto, fp32 or bf16, or on a GPU fp16"
            )
        self.dtype = DTYPES[self.precision]
        if self.device.type == "cpu":
            bound_memory()
            # Channels that have died leave momentum that halves every 14 steps. Below 1e-38 chips
            # reckon a hundred times more slowly; taken for 0, it costs nothing. Threads that start
            # from here on do so too.
            torch.set_flush_denormal(True)

    def find_device(self, device: str) -> torch.device:
        """The device of that name, which may be auto; with several processes a GPU for each."""
        several = processes() > 1
        if device == "auto":
            has_mps = torch.backends.mps.is_available() and not several
            device = "cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu"
        if several and device.startswith("cuda:"):
            raise InputError(
                f"device is {device!r}; with several processes each takes a GPU of its own: "
                "set device=cuda"
            )
        if several and device == "cuda":
            device = f"cuda:{os.environ['LOCAL_RANK']}"
        try:
            if device.partition(":")[0] not in ("cpu", "cuda", "mps"):
                raise RuntimeError("expected auto, cpu, cuda, cuda:1 or mps")
            found = torch.device(device)
            if found.index is not None and found.type == "cuda":
                torch.cuda.set_device(found)  # else memory would be taken on the first GPU too
            torch.zeros(1, device=found)
        except (
            RuntimeError,
            AssertionError,
            AttributeError,
        ) as error:  # the last: no CUDA in torch
            raise InputError(
                f"device is {device!r}, which this machine doesn't offer "
                f"({str(error).splitlines()[0]}); auto takes what is there"
            ) from error
        return found

    def best_precision(self) -> str:
        """bf16 only where the chip multiplies in it: emulated, it is ten times slower than fp32."""
        if self.device.type == "cuda":
            return "bf16" if torch.cuda.get_device_capability(self.device)[0] >= 8 else "fp16"
        has = getattr(torch.cpu, "get_capabilities", dict)() if self.device.type == "cpu" else {}
        return "bf16" if has.get("avx512_bf16") or has.get("amx_bf16") else "fp32"

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def layout(self, channels: int) -> torch.memory_format:
        """The order in memory in which a net that begins with so many channels learns fastest.

        Channels last, where the chips' own kernels have it; in fp32 on CPUs the gradients of wide
        convolutions are slow in it.
        """
        is_plain_cpu = (self.device.type, self.dtype) == ("cpu", torch.float32)
        if channels >= 32 and is_plain_cpu:
            return torch.contiguous_format
        return torch.channels_last

    def settle(self, model: nn.Module) -> nn.Module:
        """A model to be trained, moved here in the order in memory that suits it."""
        if self.device.type == "cpu":
            keep_memory()
            quicken_dropout(model)
        # Batches are of a few sizes: for each, GPUs may try out their ways of convolving once.
        torch.backends.cudnn.benchmark = True
        # Not to be had on CPUs, where each process normalises by its own pictures.
        if processes() > 1 and self.device.type == "cuda":
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return model.to(self.device, memory_format=self.layout(first_width(model)))

    def put(
        self, batch: Sequence[torch.Tensor], layout: torch.memory_format = torch.channels_last
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and masks on the device: uint8 travels, int64 masks are made there."""
        images, masks = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        return images.contiguous(memory_format=layout), masks.long()

    def workers(self, wanted: int) -> int:
        """Processes that read beside the net; -1: as many as cores, less one, on a GPU, and none
        on a CPU."""
        if wanted >= 0:
            return wanted
        return max(1, min(16, cores() - 1)) if self.device.type == "cuda" else 0

    def __str__(self) -> str:
        return f"{self.device} in {self.precision}"


def first_width(model: nn.Module) -> int:
    """Channels that a net begins with."""
    return next(model.parameters()).shape[0]


def can_compile(place: Place) -> bool:
    """torch.compile is worth its wait on GPUs, not too old ones; it needs triton and a C
    compiler."""
    if place.device.type != "cuda" or torch.cuda.get_device_capability(place.device)[0] < 7:
        return False
    has_headers = Path(sysconfig.get_path("include"), "Python.h").exists()
    has_compiler = any(map(shutil.which, ("cc", "gcc", "clang")))
    return find_spec("triton") is not None and has_compiler and has_headers


class Machinery:
    """What a step needs beside the textbook's: the device, precision, compiling, other
    processes."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, place: Place, compile_model: bool
    ):
        self.model, self.optimizer, self.place = model, optimizer, place
        if isinstance(optimizer, Muon):
            optimizer.in_bf16 = (place.device.type, place.precision) == ("cpu", "bf16")
            optimizer.together = place.device.type == "cuda"
        self.layout = place.layout(first_width(model))
        self.shared = shared_by_all(model) if processes() > 1 else model
        self.forward = self.shared
        if compile_model and can_compile(place):
            self.forward = torch.compile(self.shared, dynamic=False)
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=place.dtype == torch.float16)
        self.skipped, self.skipped_in_row = 0, 0  # steps that the scaler left out

    def set_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def logits(self, images: torch.Tensor, is_last: bool) -> torch.Tensor:
        """The net's, in the place's precision; with the last micro-batch of a step the gradients of
        all processes become their mean."""
        if self.shared is not self.model:
            self.shared.require_backward_grad_sync = is_last
        with self.place.autocast():
            return self.forward(images)

    def backward(self, loss: torch.Tensor) -> None:
        self.scaler.scale(loss).backward()

    def clip(self, longest: float) -> torch.Tensor:
        """Shorten a gradient longer than `longest`, if that is more than 0; returns how long it
        was."""
        self.scaler.unscale_(self.optimizer)
        return nn.utils.clip_grad_norm_(self.model.parameters(), longest or math.inf)

    def is_sound(self, loss_value: float, norm_value: float) -> bool:
        """Whether a step may be taken, or left out by fp16's scaler, which then scales less."""
        if math.isfinite(norm_value):
            self.skipped_in_row = 0
        else:
            self.skipped_in_row += 1
            self.skipped += 1
        allowed = MOST_SKIPPED if self.scaler.is_enabled() else 0
        return math.isfinite(loss_value) and self.skipped_in_row <= allowed

    def update(self) -> None:
        """One step of the optimizer, and no gradient left."""
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict:
        return {
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "skipped": self.skipped,
        }

    def load(self, state: dict) -> None:
        self.optimizer.load_state_dict(state["optimizer"])
        if state["scaler"]:  # empty where the run was not in fp16
            self.scaler.load_state_dict(state["scaler"])
        self.skipped = state["skipped"]


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move an average of earlier weights towards the new ones; faster in the first steps, when
    it has little to remember."""
    decay = min(decay, step / (step + 10))
    for mean, new in zip(average.state_dict().values(), model.state_dict().values()):
        if mean.is_floating_point():
            mean.lerp_(new, 1 - decay)
        else:
            mean.copy_(new)


# ---- signals ----


@contextmanager
def signals_caught() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM are put into a list, for the step in hand to be finished; a second Ctrl-C
    stops at once."""
    caught: list[int] = []

    def catch(number: int, _) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)

    before = {number: signal.signal(number, catch) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, action in before.items():
            signal.signal(number, action)


def leave_signals_to_parent(_: int) -> None:
    """Ctrl-C reaches workers too; the training process finishes its step first, and needs them."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
