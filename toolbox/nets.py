"""Several checkpoints as one: their nets look at a picture in turn, and the mean counts."""

import math
import os
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

from toolbox.errors import InputError, few
from toolbox.files import in_run
from toolbox.tiles import Looks

from torch import Tensor, nn


def files_of(checkpoint: Path) -> list[Path]:
    """The checkpoints that a path names: a file; a run's best; those of a run's folds; or all that
    lie in a folder or are the best of the runs in it and of their folds."""
    if not os.path.isdir(checkpoint):  # False where a name is too long
        return [checkpoint]
    best = checkpoint / "best.pth"
    if best.exists():
        return [best]
    found = [path for path in checkpoint.glob("*.pth") if path.name != "last.pth"]
    if not found:
        found = list(chain.from_iterable(in_run(run, "best.pth") for run in checkpoint.iterdir()))
    if not found:
        raise InputError(
            f"checkpoint {checkpoint} is a folder without any; expected a run's folder, one with "
            "the folders of runs, or one with .pth files"
        )
    return sorted(found)


def check_alike(files: Sequence[Path], every: Sequence[dict], tile: bool) -> None:
    """Nets whose classes, or sizes of what they see, differ have no mean."""
    for path, saved in zip(files, every):
        facts = {
            "classes": (every[0]["classes"], saved["classes"]),
            "image_size": (list(every[0]["image_size"]), list(saved["image_size"])),
        }
        for name in ("num_classes", "in_channels"):
            facts[name] = (every[0]["model"].get(name), saved["model"].get(name))
        if tile:
            facts["scale"] = (every[0].get("scale"), saved.get("scale"))
        for name, (first, other) in facts.items():
            if first != other:
                words = "" if name == "classes" else f" ({first} and {other})"
                raise InputError(
                    f"{files[0]} and {path} differ in {name}{words}, so that there is no mean of "
                    "them; name one checkpoint, or a folder of those that are alike"
                )


def read_all(checkpoint: str, load: Callable[[Path], dict], tile: bool) -> list[dict]:
    """All checkpoints that a path names."""
    files = files_of(Path(checkpoint))
    every = [load(path) for path in files]
    check_alike(files, every, tile)
    if len(files) > 1:
        print(f"the mean of {len(files)} nets: {few(list(map(str, files)))}")
    return every


class Nets(nn.ModuleList):
    """Several nets, as inference.py takes one."""

    @property
    def num_classes(self) -> int:
        return self[0].num_classes

    @property
    def patch(self) -> int:
        return min(net.patch for net in self)

    def multiple(self) -> int:
        return math.lcm(*(net.multiple() for net in self))


def together(models: Sequence[nn.Module]) -> nn.Module:
    return models[0] if len(models) == 1 else Nets(models)


def by_each(model: nn.Module, looks: Callable[[nn.Module, Tensor], Iterator[Tensor]]) -> Looks:
    """What looks gives of pictures with a net; with several, one net after the other."""
    nets = model if isinstance(model, Nets) else [model]

    def looks_of_all(images: Tensor) -> Iterator[Tensor]:
        for net in nets:
            yield from looks(net, images)

    return looks_of_all
