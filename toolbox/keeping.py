"""A run on the disk: its evaluations drawn and written down, its best weights kept, stopped and
gone on with."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from toolbox import pictures, plots, processes, runs
from toolbox.checkpoints import read_checkpoint, save_tensors
from toolbox.descriptions import check_weights
from toolbox.drawings import drawing
from toolbox.files import locked, write_table
from toolbox.machine import Place
from toolbox.memory import release_memory
from toolbox.prepared import Data
from toolbox.progress import Progress
from toolbox.resuming import check_beside, read_run, taken_up
from toolbox.settings import as_data
from toolbox.tiles import whole_logits
from toolbox.watch import Bar, Thinned

import numpy as np
import torch
from torch import Tensor, nn


def only_class_of(predicted: Tensor, true: Tensor) -> int:
    """The class that got all of the pixels (K,), though they are of others too; or -1."""
    found = predicted.nonzero().flatten().tolist()
    return found[0] if len(found) == 1 and true[found[0]] < true.sum() else -1


class Run(Progress):
    """train.py's Training fills in arguments and kept, and has an evaluate()."""

    arguments: dict  # that build the net
    kept: nn.Module  # the weights that are evaluated and kept

    def __init__(self, constants: dict, data: Data, place: Place):
        super().__init__(constants, data, place)
        self.best: dict | None = None  # the best checkpoint, where the disk does not hold it yet
        self.drawn = 0  # the last evaluation that curves.png shows

    # ---- an evaluation ----

    @torch.no_grad()
    def predict(self, split: str, chosen: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Images, masks and predictions, uint8, of some pictures of a split."""
        self.kept.eval()
        samples = [self.splits[split][i] for i in chosen]
        images = torch.stack([image for image, _ in samples])
        masks = torch.stack([mask for _, mask in samples])
        placed, _ = self.place.put((images, masks))
        logits = whole_logits(self.kept, placed, self.place)
        return images, masks, logits.argmax(1).byte().cpu()

    def watched(self) -> list[int]:
        """The pictures of validation that are drawn along the way, the same ones each time."""
        count = len(self.splits["val"])
        return np.linspace(0, count - 1, min(4, count)).round().astype(int).tolist()

    def write_down(self, scores: dict[str, dict]) -> str:
        """An evaluation's row in history.csv, its pictures, and its weights where they are the
        best so far; returns a line that says how it went."""
        row = {
            "step": self.step,
            "images_seen": self.images_seen(),
            "seconds": round(self.clock.seconds, 2),
            "learning_rate": self.rates[-1],
        }
        for split, values in scores.items():
            for key in ("loss", "pixel_accuracy", "mean_iou"):
                row[f"{split}_{key}"] = values[key]
        self.history.append(row)
        self.only_class = only_class_of(scores["val"]["predicted"], scores["val"]["true"])
        self.show()
        if processes.is_first():
            rows = [list(row), *(list(past.values()) for past in self.history)]
            write_table(self.folder / "history.csv", rows)
            if self.best_row() == len(self.history) - 1:
                self.best = self.checkpoint()
        keys = ("train_loss", "val_loss", "train_mean_iou", "val_mean_iou")
        return f"step {self.step}: " + ", ".join(f"{key} {row[key]:.3f}" for key in keys)

    def show(self) -> None:
        """What is predicted of a few pictures: drawn now, and kept to be drawn at the end."""
        images, masks, preds = self.predict("val", self.watched())
        self.seen.add(self.step, preds)
        if processes.is_first():
            table = self.data.table
            path = self.folder / "predictions" / f"step_{self.step:06d}.png"
            with drawing(path):
                sheet = pictures.prediction_sheet(images, masks, preds, table.names, table.colors)
                pictures.save_picture(path, sheet)

    def metrics(self) -> dict:
        """The scores on validation of an evaluation of this step."""
        row = self.history[-1] if self.is_judged() else {}
        return {key: row[key] for key in row if key.startswith("val_")}

    # ---- on the disk ----

    def checkpoint(self) -> dict:
        """All that inference needs to know, as tensors, numbers and texts."""
        weights = self.kept.state_dict()
        return {
            "format": 1,
            "model": self.arguments,
            "weights": {name: tensor.to("cpu", copy=True) for name, tensor in weights.items()},
            "classes": self.data.table.described(),
            "image_size": list(self.data.image_size),
            "scale": self.data.scale(),
            "step": self.step,
            "metrics": self.metrics(),
            "constants": as_data(self.constants),
        }

    def keep_best(self) -> None:
        """Put the best weights where the disk has worse ones."""
        if self.best:
            save_tensors(self.folder / "best.pth", self.best)
            runs.publish(self.folder)
            self.best = None

    def save(self) -> None:
        """best.pth, then last.pth: the checkpoint, and all else that the next step depends on; then
        the curves."""
        if not processes.is_first():
            return
        self.keep_best()
        state = {
            **self.machine.state(),
            **self.clock.state(),
            "weights": {} if self.kept is self.model else self.model.state_dict(),
            "history": self.history,
            "rates": self.rates,
            "seen": dict(self.seen),
            "data": self.data.fingerprint(),
            "processes": processes.processes(),
            "launch": processes.launch(),
        }
        save_tensors(self.folder / "last.pth", {**self.checkpoint(), "resume": state})
        if self.history and self.history[-1]["step"] > self.drawn:
            best = self.history[self.best_row()]["step"]
            with drawing(self.folder / "curves.png") as path:
                plots.draw_curves(path, self.history, self.rates, best)
                self.drawn = self.history[-1]["step"]

    def load(self) -> None:
        """Stand where last.pth does, to the bit, if it is the same run."""
        path = self.folder / "last.pth"
        saved = processes.from_first(lambda: read_run(path))
        state = saved["resume"]
        runs.check_same(self.folder, saved, self.constants, self.data.fingerprint())
        check_beside(path, saved, self.kept, self.model, self.machine.optimizer)
        with taken_up(path):
            self.kept.load_state_dict(saved["weights"])
            self.model.load_state_dict(state["weights"] or saved["weights"])
            self.machine.load(state)
        self.clock.load(state)
        self.step, self.history, self.rates = saved["step"], state["history"], state["rates"]
        self.seen = Thinned(state.get("seen", {}))

    def load_best(self) -> None:
        """Take up the best weights, to judge by, and make them unet_model.pth."""
        release_memory()
        path = self.folder / "best.pth"
        best = processes.from_first(lambda: read_checkpoint(path))
        check_weights(path, best["weights"], self.kept.state_dict())
        self.kept.load_state_dict(best["weights"])
        if processes.is_first():
            runs.publish(self.folder)

    # ---- while it goes on ----

    @contextmanager
    def begun(self, folder: Path | None) -> Iterator[None]:
        """The run's folder, a new one or one that there is, held against other runs; where it has
        a last.pth, the run goes on from that."""
        goes_on = processes.from_first(lambda: bool(folder) and (folder / "last.pth").exists())
        self.folder = folder or processes.from_first(
            lambda: runs.make_run(self.data.name, self.constants["run_dir"], self.data.folders())
        )
        with locked(self.folder):
            if goes_on:
                self.load()
            elif processes.is_first():
                runs.check_unused(self.folder)  # it may have come while the lock was waited for
            print(self.opening_line())
            if processes.is_first():
                runs.sweep_run(self.folder)
                runs.keep_earlier(self.folder)
                with drawing(self.folder / "learning_rate.png") as path:
                    plots.draw_learning_rate(path, self.rates + self.planned_rates())
            try:
                yield
            except KeyboardInterrupt:  # outside the loop, or a second one in it
                print(self.stopped_line(sys.argv[1:]))
                raise

    def catch_up(self, bar: Bar) -> None:
        """Before the first step: the evaluation that a signal cut off, warnings, and a first
        save."""
        if self.is_due():
            bar.write(self.evaluate())
        self.warn(bar)
        self.save()

    @contextmanager
    def going_on(self, batches: Iterator) -> Iterator[Bar]:
        """A bar for the steps. However the run ends, its best weights are on the disk then, and no
        worker that read for it is left."""
        total, is_quiet = self.constants["training_iterations"], not processes.is_first()
        look = {"unit": "step", "dynamic_ncols": True, "disable": is_quiet}
        self.clock.tick()
        try:
            with Bar(total=total, initial=self.step, desc="training", **look) as bar:
                yield bar
        finally:
            self.keep_best()
            if hasattr(batches, "_shutdown_workers"):  # they leave signals to this process
                batches._shutdown_workers()
