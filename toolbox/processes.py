"""Several processes on one machine or many: torchrun starts N of them and numbers them; one
alone is number 0 of 1."""

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import chain

import torch
import torch.distributed as dist


def rank() -> int:
    return int(os.environ.get("RANK", 0))


def processes() -> int:
    return int(os.environ.get("WORLD_SIZE", 1))


def own_part() -> tuple[int, int]:
    """The number of this process, and how many share the work."""
    return rank(), processes()


def own(things: Sequence) -> Sequence:
    """This process's part of what all share."""
    return things[rank() :: processes()]


def is_first() -> bool:
    """Whether this is the process that writes and prints for all."""
    return rank() == 0


def all_cores() -> int:
    """The cores that a program may use here."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cores() -> int:
    """The cores that this process has for itself."""
    return max(1, all_cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1)))


def launch() -> str:
    """Names the torchrun that started this process, the same when it starts it again; "" without
    one."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return ""
    return f"{os.environ['TORCHELASTIC_RUN_ID']} {os.getppid()}"


def is_restarted() -> bool:
    """Whether torchrun started this process again after one was killed."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def starter() -> str:
    """The command that starts as many processes as these."""
    if processes() == 1:
        return "python"
    return f"torchrun --standalone --nproc_per_node={processes()}"


def join_processes(device: torch.device) -> None:
    """Meet the others: over nccl for what lies on GPUs, over gloo for the rest."""
    if processes() == 1 or dist.is_initialized():
        return
    if device.type != "cuda":
        torch.set_num_threads(cores())
    patience = timedelta(hours=6)  # the first may have much to read
    store, number, count = next(dist.rendezvous("env://", timeout=patience))
    # One machine's store outlives a restart, with the addresses of those who were before.
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        store = dist.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=count, timeout=patience)


def part_in_peace() -> None:
    """Leave the others in good order, all of them being done."""
    if dist.is_initialized():
        dist.destroy_process_group()


def from_first(make: Callable):
    """What the first process makes, on all of them."""
    box = [make() if is_first() else None]
    if processes() > 1:
        dist.broadcast_object_list(box)
    return box[0]


def from_all(thing) -> list:
    """The thing of each process, in their order."""
    things = [thing]
    if processes() > 1:
        things *= processes()
        dist.all_gather_object(things, thing)
    return things


def joined(things: list) -> list:
    """The things of all processes, one after the other."""
    return list(chain.from_iterable(from_all(things)))


def once_a_machine(make: Callable):
    """make(), each machine's first process before its others, who find done what has to be done
    once."""
    goes_first = os.environ.get("LOCAL_RANK", "0") == "0"
    made = make() if goes_first else None
    from_all(None)
    return made if goes_first else make()


def agree(number: int) -> int:
    """The largest of all processes' numbers."""
    box = torch.tensor(number)
    if processes() > 1:
        dist.all_reduce(box, dist.ReduceOp.MAX)
    return box.item()


def add_up(*tensors: torch.Tensor) -> None:
    """Put the sum over all processes into each tensor."""
    if processes() > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)


def mean_of_all(value: torch.Tensor) -> torch.Tensor:
    """The mean over all processes of a value that each has."""
    value = value / processes()
    add_up(value)
    return value


def seed_dropout(seed: int, step: int) -> None:
    """Dropout follows from the step, so that a run can be taken up anywhere, and from the
    process."""
    number = (seed * 1_000_003 + step) * processes() + rank()
    torch.manual_seed(number % 2**63)


def shared_by_all(model: torch.nn.Module) -> torch.nn.Module:
    """The net whose gradients become the mean over all processes."""
    from torch.nn.parallel import DistributedDataParallel  # slow to import; one alone has no need

    return DistributedDataParallel(model)


def share_buffers(model: torch.nn.Module) -> None:
    """Give all processes the first one's buffers, which gradients don't keep alike: batch norm's
    averages."""
    if processes() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)
