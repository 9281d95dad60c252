"""Compare settings of train.py at an equal budget of wall time, over several seeds.

    python experiments/compare.py comparison=losses [budget=75] [seeds=3] [data_dir=PATH]

The settings' speeds are measured first, in steps of each in turn; then each gets as many steps as
fit into `budget` seconds of training (comparison=films: of each of its three nets). After each run
a row goes to TrainingOutput/compare-<comparison>.csv, so that a comparison that was stopped goes on
where it was. At the end, or where all runs are there already, it prints the table for
docs/results.md: means over the seeds and their standard deviation.
"""

import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from toolbox import settings
from toolbox.errors import InputError
from toolbox.machine import Place

from dataset import prepare, training_batches

ROOT = Path(__file__).resolve().parent.parent

comparison = "losses"  # one of COMPARISONS
budget = 75.0  # seconds of training for each run
seeds = 3  # runs of each; on Streets each is another split, another start and another order
data_dir = "Dataset"  # as in train.py
rounds = 60  # a setting's speed is measured in so many steps

# The default's weight decay is for longer runs; growing pictures are a row of their own.
SHORT = ["weight_decay=0.01", "training_scale=1"]
# camvid_small.py as it was when it was compared, and its windows and mean are rows of their own.
WHOLE = ["training_scale=0.83", "crop_size=0,0", "min_lr=1e-5", "ema_decay=0"]
SMALL = [
    str(ROOT / "recipes" / "camvid_small.py"),
    *WHOLE,
    "image_size=96,128",
    "features=16,32,64",
    "mix=0",  # it is for long runs too
    *SHORT,
    "training_scale=0.83",
]
# What the default run (but for cosine, which it hasn't) and camvid_small.py are made of, each left
# out or put in.
INGREDIENTS = {
    "all of it": [],
    "AdamW for Muon": ["optimizer=adamw"],
    "no augmentation": ["augment="],
    "no zoom": ["augment=flip+color+grey"],
    "no flip": ["augment=zoom+color+grey"],
    "no colour": ["augment=zoom+flip"],
    "no Dice": ["loss=ce"],
    "no weight decay": ["weight_decay=0"],
    "square root for cosine": ["lr_schedule=sqrt"],
    "with averaged weights": ["ema_decay=0.98"],
}
# Three nets for each setting, each judged on a film of CamVid that it has not seen.
FILMS = [str(ROOT / "recipes" / "camvid_small.py"), "image_size=180,240", "features=16,32,64"]
FILMS += [*WHOLE, "folds=3"]
# Each setting: train.py's arguments.
COMPARISONS = {
    "losses": {
        name: [*SHORT, *change]
        for name, change in {
            "ce": ["loss=ce"],
            "ce, class_weights 0.5": ["loss=ce", "class_weights=0.5"],
            "focal": ["loss=focal"],
            "dice": ["loss=dice"],
            "ce+dice": ["loss=ce+dice"],
            "lovasz": ["loss=lovasz"],
        }.items()
    },
    "ingredients": {
        name: ["image_size=48,80", *SHORT, *change]
        for name, change in {
            **INGREDIENTS,
            "zoom and colour twice as strong": ["augment_strength=2"],
            "with class weights": ["class_weights=0.5"],
            "with squares, twice the size": ["image_size=96,160", "patch=2"],
            "judged at a larger size": ["image_size=56,96", "training_scale=0.83"],
            "pictures that grow": ["training_scale=0.5,0.75,1"],
        }.items()
    },
    "ingredients_camvid": {
        name: [*SMALL, *change]
        for name, change in {
            **INGREDIENTS,
            "zoom and colour half as strong": ["augment_strength=1"],
            "no class weights": ["class_weights=0"],
            "trained at the size that is judged": ["training_scale=1"],
            "pictures that grow": ["training_scale=0.5,0.67,0.83"],
            "no squares, half the size": ["image_size=48,64", "patch=1"],
        }.items()
    },
    "films": {
        name: [*FILMS, *change]
        for name, change in {
            "all of it": [],
            "no parts of other pictures": ["mix=0"],
            "parts of others in every picture": ["mix=1"],
            "no colour": ["augment=zoom+flip"],
            "no zoom": ["augment=flip+color+grey"],
            "zoom and colour half as strong": ["augment_strength=1"],
            "dropout": ["dropout=0.15"],
            "no Dice": ["loss=ce"],
            "no class weights": ["class_weights=0"],
            "AdamW for Muon": ["optimizer=adamw"],
            "half the learning rate": ["base_lr=6e-3"],
            "the mean of weights that still move": ["min_lr=3e-3", "ema_decay=0.995"],
            "windows of whole pictures": ["training_scale=1", "crop_size=144,192"],
        }.items()
    },
    "unetpp": {
        "UNet": SHORT,
        "UNet++": [*SHORT, "architecture=unet++", "features=15,30,60"],
        "UNet++, as many steps": [*SHORT, "architecture=unet++", "features=15,30,60"],
    },
    "unetpp_camvid": {
        "UNet": SMALL,
        "UNet++": [*SMALL, "architecture=unet++", "features=15,30,60"],
        "UNet++, as many steps": [*SMALL, "architecture=unet++", "features=15,30,60"],
    },
}
# A setting that takes another's steps, however long they take.
STEPS_OF = {"UNet++, as many steps": "UNet"}
# A row of the file: these, the mean IoU, and each class's.
FIXED = ("setting", "arguments", "seed", "budget", "seconds_per_step", "steps", "seconds")
FIXED += ("parameters", "judged_on")


def train(arguments: list[str], steps: int, seed: int) -> dict:
    """A run's report.json. It lies in a folder of its own, so that nobody's unet_model.pth is
    replaced."""
    with tempfile.TemporaryDirectory() as folder:
        own = {
            "training_iterations": steps,
            "eval_interval": steps,
            "save_model_interval": steps,
            "lr_schedule": "cosine",
            "decay_factor": 0,
            "seed": seed,
            "data_dir": (ROOT / data_dir).resolve(),
            "run_dir": "run",
        }
        for argument in arguments:
            if argument.startswith("lr_schedule="):
                own["lr_schedule"] = argument.partition("=")[2]
        given = [*arguments, *(f"{name}={value}" for name, value in own.items())]
        command = [sys.executable, ROOT / "train.py", *given]
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        if done.returncode:
            raise InputError(f"{' '.join(map(str, command))} failed: {done.stderr[-2000:]}")
        return json.loads(Path(folder, "run", "report.json").read_text())


def score_of(report: dict) -> float:
    """A run's mean IoU; with folds the mean of theirs, so that each film counts alike."""
    if "each_fold" in report:
        return statistics.mean(entry["fold"] for entry in report["each_fold"])
    return report[report["judged_on"]]["mean_iou"]


def constants_of(arguments: list[str]) -> dict:
    """train.py's constants as these arguments leave them."""
    import train

    constants = settings.settings_of(vars(train))
    settings.override(constants, arguments)
    return constants


def seconds_per_step(chosen: dict[str, list[str]]) -> dict[str, float]:
    """How long a step of each setting takes: the median of rounds in which each takes one in turn,
    so that what else the machine does slows all alike."""
    import train

    before, ready = settings.settings_of(vars(train)), {}
    try:
        for name, arguments in chosen.items():
            vars(train).update(before)
            constants = constants_of(arguments) | {"data_dir": str((ROOT / data_dir).resolve())}
            constants["training_iterations"] = rounds  # so that all of its sizes are met
            vars(train).update(constants)
            data = prepare(train.dataset, train.data_dir, train.image_size, train.cache, train.seed)
            training = train.Training(data, Place(train.device, train.precision))
            batches = training_batches(training.stream, train.batch_size)
            ready[name] = (constants, training, batches)
        times: dict[str, list[float]] = {name: [] for name in chosen}
        for _ in range(rounds):
            for name, (constants, training, batches) in ready.items():
                vars(train).update(constants)
                began = time.perf_counter()
                training.take_step(batches)
                times[name].append(time.perf_counter() - began)
        found = {}
        for name, (constants, _, _) in ready.items():
            scales = len(settings.training_scales(constants))
            each = -(-rounds // scales)
            parts = [times[name][first : first + each] for first in range(0, rounds, each)]
            found[name] = statistics.mean(map(statistics.median, parts))
        return found
    finally:
        vars(train).update(before)


def read_rows(path: Path) -> list[dict]:
    if not path.exists():
        return []
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def append_row(path: Path, row: dict) -> None:
    is_new = not path.exists()
    with open(path, "a", newline="") as file:
        table = csv.DictWriter(file, row)
        if is_new:
            table.writeheader()
        table.writerow(row)


def mean_and_spread(values: list[float], sign: str = "") -> str:
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):{sign}.3f}{spread}" if values else "-"


def table_row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def format_table(rows: list[dict]) -> str:
    """One line for each setting: parameters, steps, seconds, mean IoU and each class's IoU on the
    split that was judged.

    Seeds differ, on Streets in their split too, so that settings are best told apart seed by seed:
    "more" is what one has above the first setting at the same seed.
    """
    first = {}
    for row in rows:
        if row["setting"] == rows[0]["setting"]:
            first[row["seed"]] = float(row["mean IoU"])
    for row in rows:
        row["more"] = float(row["mean IoU"]) - first[row["seed"]]
    classes = [name for name in rows[0] if name not in (*FIXED, "mean IoU", "more")]
    scores = ["mean IoU", "more", *classes]
    titles = [f"{rows[0]['judged_on']} split", "parameters", "steps", "seconds", *scores]
    lines = [table_row(titles), "| --- " * len(titles) + "|"]
    for setting in dict.fromkeys(row["setting"] for row in rows):
        runs = [row for row in rows if row["setting"] == setting]
        cells = [setting, f"{int(runs[0]['parameters']):,}"]
        for name in ("steps", "seconds"):
            cells.append(f"{statistics.mean(float(run[name]) for run in runs):,.0f}")
        for name in scores:  # a class that no mask of the split has is in no mean
            values = [float(run[name]) for run in runs if run[name] not in ("", "None")]
            cells.append(mean_and_spread(values, "+" if name == "more" else ""))
        lines.append(table_row(cells))
    return "\n".join(lines)


def belongs(row: dict, compared: dict[str, list[str]]) -> bool:
    """Whether an earlier run is one of those that are asked for."""
    if float(row["budget"]) != budget or int(row["seed"]) >= seeds:
        return False
    if row["setting"] not in compared:
        return False
    return row["arguments"] == " ".join(compared[row["setting"]])


def main() -> None:
    if comparison not in COMPARISONS:
        raise InputError(f"comparison is {comparison!r}; expected one of {', '.join(COMPARISONS)}")
    path = ROOT / "TrainingOutput" / f"compare-{comparison}.csv"
    path.parent.mkdir(exist_ok=True)
    compared = COMPARISONS[comparison]
    rows = [row for row in read_rows(path) if belongs(row, compared)]
    paces = {row["setting"]: float(row["seconds_per_step"]) for row in rows}
    known = {*paces, *STEPS_OF}
    paces |= seconds_per_step({name: compared[name] for name in compared if name not in known})
    # Seed by seed, so that a comparison stopped early has as many runs of each setting.
    for seed in range(seeds):
        for setting, arguments in compared.items():
            if any(row["setting"] == setting and int(row["seed"]) == seed for row in rows):
                continue
            pace = paces[STEPS_OF.get(setting, setting)]
            steps = round(budget / pace)
            print(f"{setting}, seed {seed}: {steps} steps", flush=True)
            report = train(arguments, steps, seed)
            judged = report[report["judged_on"]]
            values = (setting, " ".join(arguments), seed, budget, pace, steps)
            row = dict(zip(FIXED, values))
            for name in FIXED[len(values) :]:
                row[name] = report[name]
            row["mean IoU"] = score_of(report)
            row |= {entry["name"]: entry["iou"] for entry in judged["classes"]}
            append_row(path, row)
            rows.append({name: str(value) for name, value in row.items()})
            score, seconds = row["mean IoU"], report["seconds"]
            print(f"  mean IoU {score:.3f} after {seconds:.0f} s", flush=True)
    print(format_table(rows))


if __name__ == "__main__":
    settings.run_script(globals(), main)
