"""Folds: as many runs as there are parts of the pictures, each judged on the part that it has not
seen, and what all of them say together."""

import json
import os
import statistics
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

from toolbox.best import check_best
from toolbox.errors import InputError
from toolbox.files import last_files, locked, write_table, write_text, writing
from toolbox.findings import entries
from toolbox.judged import Judged, read_judged
from toolbox.prepared import Data, split_notes
from toolbox.processes import from_first, is_first
from toolbox.remarks import same_pictures
from toolbox.reports import Result, closing_table
from toolbox.resuming import look_at_run
from toolbox.runs import FOLDS, JUDGED, PUBLISHED, check_same, check_unused, make_run, sweep_run
from toolbox.splits import fold_splits


class Fold(Data):
    """A data set split so that the split "fold" judges what the others have not seen."""

    def typical_rows(self) -> list[int]:
        """The same for all folds, so that their nets see tiles at one scale."""
        parts = [rows for split, rows in self.splits.items() if split != "test"]
        return sorted(chain.from_iterable(parts))


def folds_of(data: Data, constants: dict) -> list[Fold]:
    every = fold_splits(data.pairs, data.digests, constants["folds"], constants["seed"])
    folds = [Fold(**{**vars(data), "splits": splits}) for splits in every]
    images = [pair.image for pair in data.pairs]
    for fold in folds:
        twice = same_pictures(images, fold.splits, data.digests)  # in several groups
        fold.notes = data.notes + split_notes(fold) + entries(twice, data.source.root)
    return folds


class Folds:
    """A run's folder with a folder for each fold."""

    def __init__(self, run: Path, parts: list[Fold], constants: dict):
        self.run, self.parts, self.constants = run, parts, constants
        self.folders = [run / f"fold-{number}" for number in range(1, len(parts) + 1)]
        self.judged: list[Judged | None] = [None] * len(parts)  # where a fold is done

    def look(self, i: int) -> bool:
        """Whether a fold is done; one that has begun must be of this run."""
        folder, part = self.folders[i], self.parts[i]
        if not (folder / "last.pth").exists():
            return False
        saved = look_at_run(folder / "last.pth")
        check_same(folder, saved, self.constants, part.fingerprint())
        check_best(folder, saved, PUBLISHED)
        self.judged[i] = read_judged(folder, self.constants, part.splits["fold"])
        return self.judged[i] is not None

    def begin(self, i: int) -> None:
        """A fold's folder, and the table of the pictures that were judged before it."""
        self.write_pictures()
        with writing(self.folders[i]):
            self.folders[i].mkdir(exist_ok=True)

    def opening_line(self, i: int) -> str:
        parts = [f"{split} {len(rows)}" for split, rows in self.parts[i].splits.items()]
        done = "; it is done" if self.judged[i] else ""
        return f"fold {i + 1} of {len(self.parts)}: {', '.join(parts)}{done}"

    # ---- what all of them say ----

    def pictures(self) -> dict[int, tuple[int, dict]]:
        """By row, of each picture that was judged: the number of its fold, and its scores."""
        found = {}
        for i, judged in enumerate(self.judged):
            if judged:
                rows = self.parts[i].splits["fold"]
                for index, scores in judged.pictures:
                    found[rows[index]] = (i + 1, scores)
        return dict(sorted(found.items()))

    def write_pictures(self) -> None:
        data = self.parts[0]
        rows = [["picture", "fold", "mean_iou", *data.table.names]]
        for row, (fold, scores) in self.pictures().items():
            name = os.path.relpath(data.pairs[row].image, data.source.root)
            rows.append([Path(name).as_posix(), fold, scores["mean_iou"], *scores["iou"]])
        write_table(self.run / FOLDS, rows)

    def reports(self) -> list[dict]:
        """Each fold's report.json."""
        found = []
        for folder in self.folders:
            path = folder / "report.json"
            try:
                found.append(json.loads(path.read_text()))
            except (OSError, ValueError) as error:
                raise InputError(
                    f"{path} can't be read ({type(error).__name__}); take {folder / JUDGED} away "
                    "and go on: then the fold is judged again"
                ) from error
        return found

    def result(self, matrix_of: Callable) -> Result:
        """All pictures, each judged by the net that has not seen it."""
        matrix = matrix_of(len(self.parts[0].table.names))
        for judged in self.judged:
            matrix.counts += judged.counts
        scored = [(row, scores) for row, (_, scores) in self.pictures().items()]
        return Result(matrix.counts, matrix.scores(), scored)

    def close(self, matrix_of: Callable) -> None:
        """folds.csv, report.json and the closing table."""
        self.write_pictures()
        data, result, reports = self.parts[0], self.result(matrix_of), self.reports()
        groups = [data.pairs[row].group for row, _ in result.pictures]
        whole = result.report(data.table.names, groups)
        each = []
        for i, report in enumerate(reports, start=1):
            entry = {"number": i, "pictures": report["fold"]["pictures"]}
            for split in ("fold", "test"):
                if split in report:
                    entry[split] = report[split]["mean_iou"]
            each.append(entry)
        facts = {name: reports[-1][name] for name in ("parameters", "device", "precision")}
        facts["seconds"] = round(sum(report["seconds"] for report in reports), 2)
        speeds = [report["images_per_second"] for report in reports]
        facts["images_per_second"] = round(statistics.mean(speeds), 2)
        content = {"folds": whole, "each_fold": each, **facts, "judged_on": "folds"}
        write_text(self.run / "report.json", json.dumps(content, indent=1))
        print(closing_table({"folds": whole}))
        for split, words in (("fold", "each on its own pictures"), ("test", "on the owner's test")):
            scores = [one[split] for one in each if one.get(split) is not None]
            if len(scores) > 1:
                print(f"mean IoU of the {len(scores)} nets, {words}: {mean_and_spread(scores)}")
        print(
            f"weights: best.pth in {self.folders[0]} to {self.folders[-1].name}; unet_model.pth is "
            f"the last one's. The mean of all: python inference.py checkpoint={self.run}"
        )


def mean_and_spread(scores: list[float]) -> str:
    mean, spread = statistics.mean(scores), statistics.stdev(scores)
    return f"{mean:.4f} ± {spread:.4f} ({min(scores):.4f} to {max(scores):.4f})"


def check_kind(earlier: Path, data: Data, constants: dict) -> None:
    """A run with folds goes on with as many, and one without goes on without."""
    if (earlier / "last.pth").exists() == bool(constants["folds"]):
        path = last_files(earlier)[0]
        check_same(path.parent, look_at_run(path), constants, data.fingerprint())


def in_folds(
    data: Data, constants: dict, earlier: Path | None, matrix_of: Callable
) -> Iterator[tuple[Data, Path | None]]:
    """The data of a run and the folder that it goes on in, if it does: once; or with folds once for
    each that is not done yet, and at the end all of them are reported on together."""
    if earlier:
        from_first(lambda: check_kind(earlier, data, constants))
    if not constants["folds"]:
        yield data, earlier
        return
    parts = folds_of(data, constants)
    run = earlier or from_first(
        lambda: make_run(data.name, constants["run_dir"], data.folders()),
    )
    with locked(run):
        folds = Folds(run, parts, constants)
        if is_first():
            if not earlier:
                check_unused(run)  # it may have come while the lock was waited for
            sweep_run(run)
        done = from_first(lambda: [folds.look(i) for i in range(len(parts))])
        for i, part in enumerate(parts):
            print(folds.opening_line(i))
            if done[i]:
                continue
            if is_first():
                folds.begin(i)
            yield part, folds.folders[i]
            if is_first():
                folds.look(i)
        if is_first():
            folds.close(matrix_of)
