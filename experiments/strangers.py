"""Part (d) of soak.py: somebody else's files with the names that tempt most, wherever a command
writes; every command, killed at random moments or not; and each of their bytes as it was."""

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from toolbox import cache
from toolbox.constants import read_constants
from toolbox.files import LOCK

from conftest import TINY, draw_squares
from PIL import Image
from trying import Tally, fault_of, snapshot, try_out

import dataset
import inference
import model
import train
from Dataset import make_streets

RUN = {**TINY, "training_iterations": 6, "save_model_interval": 1, "dataset": "own", "seed": 1}
NAMES = """
.x.tmp .lock .best.pth.tmp .unet_model.pth.tmp .unet_model-mine.pth.7.tmp .mine.pth.99.tmp .hidden
.unfinished-mine/work.txt .unfinished-streets/work.txt .unfinished-cache-mine/work.txt
.unfinished-abcdefgh/work.txt notes.txt curves.txt unet_model-mine.pth unet_model-2026.pth
samples-mine.png sub/.lock sub/.last.pth.5.tmp sub/report.json own-16x16-kept-mine/images.npy
""".split()
# Where no run and no mask of ours has them beside it, these stay too.
TAKEN = """
curves.png report.json history.csv best.pth learning_rate.png predictions.csv predictions/x.png
p0.png p0_overlay.png confusion.png .curves.png.4.tmp .report.json.5.tmp
""".split()
PLACES = (
    ". runs own own/images own/masks Dataset Dataset/cache TrainingOutput TrainingOutput/mine "
    "InferenceOutput InferenceOutput/TestImages InferenceOutput/TestPredictions"
).split()


Ending = tuple[int | None, str, list[str]]  # status, words, and what a refusal has to name


def fits(name: str, place: str) -> bool:
    """Whether a file may lie there without being wrong: what is hidden is nobody's picture."""
    if place in ("own/images", "own/masks"):
        return name[0] == "."
    return not (place.endswith("TestImages") and name.endswith(".png"))


class House:
    """A folder as the project's, in which every command can be run and much belongs to others."""

    def __init__(self, folder: Path, chance: random.Random):
        self.folder, self.chance = folder / "house", chance
        self.log = folder / "log"
        self.theirs: dict[str, str] = {}  # what lies where, and has to stay so
        self.models: list[str] = []  # digests of what was at unet_model.pth
        self.open_runs: dict[str, dict] = {}  # those that were killed, and their constants
        self.count = 0
        draw_squares(self.folder / "own", 8)
        for i in range(3):
            self.draw(f"InferenceOutput/TestImages/p{i}.png", i)
            self.draw(f"InferenceOutput/TestImages/sub/p{i}.png", 3 + i)
        shutil.copytree(self.folder / "own", self.folder / "Dataset" / "mine")
        for place in PLACES:
            self.put(place, [name for name in NAMES if fits(name, place)])
        for place in ("taken", "InferenceOutput/Taken"):
            self.put(place, [*NAMES, *TAKEN])
        self.put(".", TAKEN)
        self.put("TrainingOutput", TAKEN)
        self.put("TrainingOutput", ["samples-own.png", "samples-streets.png"])
        self.put("begun", [LOCK, "curves.png"])
        os.mkfifo(self.folder / "TrainingOutput" / "samples-own-2.png")
        (self.folder / "runs" / "link").symlink_to("nowhere")
        self.theirs = snapshot(self.folder)

    def draw(self, name: str, number: int) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (30 + number, 20), (40 * number, 80, 120)).save(path)

    def put(self, place: str, names: list[str]) -> None:
        """Files of somebody's, half of them as old as what is swept."""
        for name in names:
            path = self.folder / place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(f"mine: {place}/{name} {self.chance.random()}".encode())
            if self.chance.random() < 0.5:
                os.utime(path, (1e9, 1e9))
                os.utime(path.parent, (1e9, 1e9))

    def put_into_run(self, run: Path) -> None:
        """Somebody's files beside a run's own; where it could still begin they would be in its
        way."""
        if run.is_dir() and (run / "last.pth").exists():
            place = run.relative_to(self.folder).as_posix()
            fresh = [name for name in NAMES if f"{place}/{name}" not in self.theirs]
            chosen = self.chance.sample(fresh, min(2, len(fresh)))
            self.put(place, chosen)
            found = snapshot(run)
            self.theirs |= {f"{place}/{name}": found[name] for name in chosen}

    def put_model(self) -> None:
        """Somebody's own model, where the next run puts its best weights; not over another, which a
        run that was killed had no time to keep."""
        if self.models and self.models[-1] not in self.kept_models(snapshot(self.folder), "-"):
            return
        content = f"somebody's model {self.chance.random()}".encode()
        (self.folder / "unet_model.pth").write_bytes(content)
        self.models.append(hashlib.blake2b(content).hexdigest())

    def lost(self) -> list[str]:
        """What of theirs is not as it was."""
        now = snapshot(self.folder)
        found = [name for name, digest in self.theirs.items() if now.get(name) != digest]
        return found + ["unet_model.pth"] * len({*self.models} - self.kept_models(now))

    def kept_models(self, now: dict[str, str], after: str = "") -> set[str]:
        """What unet_model.pth and those kept beside it hold."""
        return {
            digest
            for name, digest in now.items()
            if name.startswith(f"unet_model{after}") and "/" not in name
        }

    # ---- commands ----

    def in_house(self, work: Callable[[], int | None], limit: float) -> Ending:
        # A file of its own: those who drew for one that was killed still write into the last one.
        self.log.unlink(missing_ok=True)
        self.log.touch()

        def start() -> int | None:
            os.chdir(self.folder)
            cache.CACHE = self.folder / "Dataset" / "cache"
            make_streets.PICTURES, make_streets.SIZE = 6, (36, 58)
            return work()

        return *try_out(start, self.log, limit), []

    def train(self, constants: dict, limit: float) -> Ending:
        def work() -> int:
            vars(train).update({**RUN, **constants})
            return train.main()

        return self.in_house(work, limit)

    def new_run(self, limit: float) -> Ending:
        """A run of its own folder, or one that was killed, as it was or taken up again."""
        chance = self.chance
        if self.open_runs and chance.random() < 0.6:
            run = chance.choice(sorted(self.open_runs))
        else:
            run = f"runs/r{self.count}"
            self.count += 1
            side = chance.randrange(16, 48)
            self.open_runs[run] = {"run_dir": run, "image_size": (side, side)}
            if chance.random() < 0.2:
                self.put_model()
        goes_on = (self.folder / run / "last.pth").exists()
        constants = {**self.open_runs[run], "resume": run if goes_on else ""}
        status, words, _ = self.train(constants, limit)
        if status == 0:
            del self.open_runs[run]
            own = [path for path in (self.folder / run).glob(".*") if self.is_ours(path)]
            if own:
                return 2, f"the run is over, but {own} lie about", []
        if status is not None or (self.folder / run / "last.pth").exists():
            self.put_into_run(self.folder / run)
        return status, words, []

    def is_ours(self, path: Path) -> bool:
        name = path.relative_to(self.folder).as_posix()
        return not any(f"{theirs}/".startswith(f"{name}/") for theirs in self.theirs)

    def named_run(self, limit: float) -> Ending:
        """A run in TrainingOutput, or the newest there that goes on."""
        goes_on = {"resume": "true"} if self.chance.random() < 0.3 else {}
        status, words, _ = self.train({"run_dir": "", **goes_on}, limit)
        runs = sorted(self.folder.glob("TrainingOutput/own-*"))
        if runs:
            self.put_into_run(self.chance.choice(runs))
        return status, words, ["no run "] if goes_on else []

    def streets(self, limit: float) -> Ending:
        """Streets drawn, where they are not there yet, and trained on."""
        if self.chance.random() < 0.7:
            shutil.rmtree(self.folder / "Dataset" / "streets", ignore_errors=True)
        run = f"runs/streets{self.count}"
        self.count += 1
        own = {"dataset": "streets", "run_dir": run, "training_iterations": 2}
        return self.train({**own, "image_size": (24, 32)}, limit)

    def refused_run(self, limit: float) -> Ending:
        """Into somebody's folder: always refused, or killed before."""
        run = self.chance.choice(
            ". taken own own/images/run begun TrainingOutput runs/link".split()
        )
        status, words, _ = self.train({"run_dir": run}, limit)
        return (2 if status == 0 else status), words, [f"run_dir {run} "]

    def report(self, limit: float) -> Ending:
        side = self.chance.randrange(16, 48)
        names = ["own", "streets", "Dataset/mine"]
        own = {**RUN, "dataset": self.chance.choice(names), "image_size": (side, side)}
        script = self.chance.choice((dataset, dataset, model))
        return self.in_house(lambda: script.main({**read_constants(), **own}), limit)

    def colour(self, limit: float) -> Ending:
        chance = self.chance
        images = "InferenceOutput/TestImages"
        own = {
            "checkpoint": "straight/best.pth",
            "device": "cpu",
            "precision": "fp32",
            "input_dir": chance.choice([images, f"{images}/p0.png", (images, f"{images}/sub")]),
            "recursive": chance.random() < 0.5,
            "overwrite": chance.random() < 0.7,
            "batch_size": chance.choice((1, 8)),
        }
        is_taken = chance.random() < 0.3
        if is_taken:
            own["output_dir"] = chance.choice(["InferenceOutput/Taken", "."])

        def work() -> int:
            vars(inference).update(own)
            return inference.main()

        status, words, _ = self.in_house(work, limit)
        if is_taken:
            return (2 if status == 0 else status), words, ["would be written over"]
        return status, words, []


def soak_strangers(folder: Path, chance: random.Random, kills: int) -> list[str]:
    house, tally, killed = House(folder, chance), Tally(), 0
    status, words, _ = house.train({"run_dir": "straight"}, 600)
    assert status == 0, words
    commands = {"train": 6, "train in TrainingOutput": 3, "train on streets": 1}
    commands |= {"train in a folder of others": 2, "report": 3, "inference": 4}
    does = [house.new_run, house.named_run, house.streets, house.refused_run]
    does += [house.report, house.colour]
    while killed < kills or house.open_runs:
        number = chance.choices(range(len(does)), [*commands.values()])[0]
        if killed >= kills:  # what was killed is brought to its end
            number = 0
        is_killed = killed < kills and chance.random() < 0.85
        status, words, names = does[number](chance.uniform(0, 1.2) if is_killed else 120)
        about = f"{list(commands)[number]} after {killed} kills"
        if status is None and is_killed:
            killed += 1
        else:
            fault = fault_of(status, words, names)
            tally.add(status, f"{fault}: {words[-600:]}" if fault else "", about)
        if lost := house.lost():
            tally.faults.append(f"{about}: not as before: {lost}")
            house.theirs = {name: what for name, what in house.theirs.items() if name not in lost}
            house.models.clear()
    files = len(house.theirs) + len(house.models)
    print(f"(d) {killed} kills among {files} files of others; of the rest {tally}")
    return tally.faults
