"""Settings as people type them, right ones and wrong ones, in train.py, in a recipe and on the
command line. Whatever is neither done nor refused in a sentence is printed; the exit status is 1.

    python experiments/fuzz_settings.py [tries=2000] [seed=0]

Each round takes one or two constants of train.py and gives them values of any kind in all three
ways: all three must refuse them, or all must train the same net to the bit, with the values that
were given. Then comes a try of dataset.py, model.py or inference.py with values and words of any
kind. No file of the user's may change, and nothing may take longer than a minute. Drawings are left
out, for time.
"""

import hashlib
import os
import random
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
sys.path.insert(1, str(Path(__file__).resolve().parent.parent / "tests"))
from toolbox import cache, constants, plots, settings
from toolbox.checkpoints import load_tensors
from toolbox.kinds import INFERENCE, KINDS, TRAINING

from conftest import ROOT, TINY, draw_squares
from trying import Tally, fault_of, snapshot, try_out

import inference  # noqa: F401  imported once, before any child
import train  # noqa: F401

tries = 2000
seed = 0

# Written as Python has them. What would be right and take hours is not among them.
VALUES = """
0 1 2 3 4 -1 -5 7 0.5 1.0 1e-3 0.1 0.999 1e1 -0.0 1e-320 1e9 10**22 -10**22 1e999 float('nan')
None True False () (1,) (1,2) (16,24) (0,0) (8,8,8) [4,8] [] {} {1} b'x' 1j 'x' '' '4' 'False' '0.1'
'true' 'flip' 'flip+flip' 'ce' 'dice+focal' 'a+' '+' 'muon' 'adamw' 'cosine' 'plateau' 'cpu' 'meta'
'cuda:9' 'fp32' 'bf16' 'fp16' 'unet' 'unet++' 'leaky_relu' 'conv' 'nearest' 'own' 'camvid'
'own/images' 'nowhere' '.' '..' '/' '/dev/null' 'run' 'own/run' 'a/b/c' 'notes.txt' 'Größe\u4e2d😀'
'$x$' '-' '--' 'x'*300 (0.1,0.2) (0.1,) 0,999 (True,True) ((1,2),(3,4)) ('4','8')
(16.0,16.0) [32,32] 65536 65537 64 len print
""".split()
WORDS = """
= == -- - --batch_size batch_size batch_size= batch_size==4 =4 a=b=c 😀=3 resume --resume=true
resume=true resume=nowhere BATCH_SIZE=4 batch-size=4 batch_size:4 own own/images own/classes.csv
notes.txt own/images/p0.png mine.py nowhere.py recipes help -x --device=cpu tta uncertainty_passes=2
""".split()
# What has to be accepted, and takes no time.
GOOD = {
    "image_size": ["(16,24)", "[16,16]", "24"],
    "features": ["(4,8)", "[4]", "8", "(4,4,4)"],
    "dropout": ["0.1", "(0.1,0.2)", "0", "[0.0,0.1]"],
    "batch_size": ["1", "3"],
    "accum_steps": ["1", "2"],
    "training_iterations": ["1", "3"],
    "base_lr": ["1", "1e-3"],
    "loss": ["'ce'", "'dice+focal'", "'tversky'", "'lovasz+ce'"],
    "augment": ["''", "'flip'", "'zoom+rotate+vflip+color+grey'"],
    "architecture": ["'unet++'"],
    "activation": ["'leaky_relu'"],
    "optimizer": ["'adamw'"],
    "lr_schedule": ["'cosine'", "'plateau'"],
    "cache": ["False"],
    "bias": ["False"],
    "padded": ["False"],
    "patch": ["2"],
    "down": ["'conv'"],
    "up": ["'nearest'"],
    "ema_decay": ["0.9", "0"],
    "class_weights": ["0.5", "1"],
    "weight_decay": ["0", "0.01"],
    "eval_interval": ["1", "1000000000"],
    "eval_iterations": ["0", "1000000000"],
    "patience": ["0", "1"],
    "seed": ["0", "7"],
    "run_dir": ["'run'", "'a/b/c'", "'Größe\u4e2d😀'", "'two words'"],
    "precision": ["'fp32'"],
    "device": ["'cpu'", "'auto'"],
}
BASE = {**TINY, "dataset": "own", "training_iterations": 2, "eval_iterations": 1}


def with_lines(text: str, values: dict[str, str]) -> str:
    """A script with other values for some of its constants."""
    for name, value in values.items():
        line = f"{name} = {value}"
        text = re.sub(rf"^{name} = .*$", lambda _, line=line: line, text, flags=re.MULTILINE)
    return text


class Workplace:
    """A folder with a user's pictures and scripts, in which tries are made."""

    def __init__(self, folder: Path):
        self.work, self.log = folder / "work", folder / "log"
        self.work.mkdir()
        draw_squares(self.work / "own", 6)
        draw_squares(self.work / "in", 2)
        (self.work / "notes.txt").write_text("mine")
        (self.work / "curves.png").write_bytes(b"mine too")
        self.scripts = {}
        for name in ("train", "dataset", "model", "inference"):
            self.scripts[name] = (ROOT / f"{name}.py").read_text(encoding="utf-8")
        base = {name: repr(value) for name, value in BASE.items()}
        self.scripts["train"] = with_lines(self.scripts["train"], base)
        self.weights = folder / "own.pth"
        given = {"checkpoint": repr(str(self.weights)), "input_dir": "'in/images'"}
        small = {"output_dir": "'out'", "device": "'cpu'", "precision": "'fp32'"}
        self.scripts["inference"] = with_lines(self.scripts["inference"], given | small)
        self.own = snapshot(self.work)
        status, words = self.run("train", {}, "", [])
        assert status == 0, words
        shutil.copy(self.work / "unet_model.pth", self.weights)

    def tidy(self) -> None:
        """Take away what the last try made."""
        shutil.rmtree(self.work / "own" / "run", ignore_errors=True)
        for path in self.work.iterdir():
            if path.name not in self.own:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def run(
        self, script: str, edits: dict[str, str], recipe: str, arguments: Sequence[str]
    ) -> tuple[int | None, str]:
        """Run a script with edited constants, a recipe of these lines and these words."""
        self.tidy()
        owner = "inference" if script == "inference" else "train"
        edited = with_lines(self.scripts[owner], edits)
        (self.work / "train.py").write_text(edited, encoding="utf-8")
        (self.work / "mine.py").write_text(recipe, encoding="utf-8")
        text = edited if script == owner else self.scripts[script]

        def work() -> None:
            os.chdir(self.work)
            cache.CACHE = self.work / "cache"
            constants.read_constants.__defaults__ = (self.work / "train.py",)
            for name in ("curves", "learning_rate", "classes", "confusion"):
                setattr(plots, f"draw_{name}", lambda *_: None)
            sys.argv = [f"{script}.py", *(["mine.py"] if recipe else []), *arguments]
            module = {"__name__": "__main__", "__file__": str(ROOT / f"{owner}.py")}
            if script != owner:
                del module["__file__"]
            exec(compile(text, f"{script}.py", "exec"), module)

        return try_out(work, self.log)

    def changed(self) -> str:
        """A file of the user's that is not as it was."""
        now = snapshot(self.work)
        lost = [name for name, digest in self.own.items() if now.get(name) != digest]
        return f"{lost} changed" if lost else ""

    def trained(self) -> str:
        """Names the weights and the constants that a run left."""
        found = load_tensors(self.work / "unet_model.pth")
        digest = hashlib.blake2b()
        for tensor in found["weights"].values():
            digest.update(tensor.numpy().tobytes())
        return f"{digest.hexdigest()} {sorted(found['constants'].items())}"


def meant(value: str) -> object:
    """What Python makes of it."""
    return eval(value)


def on_the_line(name: str, value: str) -> str | None:
    """The word for it, or None where a word can't say it."""
    is_text = KINDS[name].is_text
    if is_text and isinstance(meant(value), str):
        return f"{name}={meant(value)}"
    if isinstance(meant(value), int):
        value = str(meant(value))  # the line holds numbers, and does not reckon
    return None if is_text else f"{name}={value}"


def try_three_ways(place: Workplace, chance: random.Random, tally: Tally, number: int) -> None:
    """The same constants in the file, in a recipe and on the line."""
    names = chance.sample(sorted(TRAINING), chance.choice((1, 1, 2)))
    is_good = chance.random() < 0.3 and names[0] in GOOD
    if is_good:
        names = names[:1]
    values = {name: chance.choice(GOOD[name] if is_good else VALUES) for name in names}
    lines = "".join(f"{name} = {value}\n" for name, value in values.items())
    words = [on_the_line(name, value) for name, value in values.items()]
    ways = [("file", values, "", []), ("recipe", {}, lines, [])]
    if None not in words:
        ways.append(("line", {}, "", words))
    ends = {}
    for way, edits, recipe, arguments in ways:
        status, said = place.run("train", edits, recipe, arguments)
        fault = fault_of(status, said, [*names, *map(str, map(meant, values.values()))])
        fault = fault or place.changed()
        ends[way] = place.trained() if status == 0 and not fault else "refused"
        if is_good and status != 0:
            fault = fault or "it is right and was refused"
        if len({*ends.values()}) > 1:
            fault = fault or f"it ended otherwise than in the file: {ends}"
        tally.add(status, fault and f"{fault}: {said[-600:]}", f"{number} {way} {values}")


def try_anything(place: Workplace, chance: random.Random, tally: Tally, number: int) -> None:
    """Values and words of any kind for the other scripts."""
    script = chance.choice(("dataset", "model", "inference", "inference"))
    known = sorted(INFERENCE if script == "inference" else TRAINING)
    edits, arguments = {}, []
    for name in chance.sample(known, chance.choice((0, 1, 2))):
        edits[name] = chance.choice(VALUES)
    for _ in range(chance.choice((0, 1, 1, 2))):
        name, value = chance.choice(known), chance.choice(VALUES)
        word = on_the_line(name, value) or "="
        arguments.append(chance.choice((word, chance.choice(WORDS))))
    if "resume=true" in arguments:
        edits.pop("run_dir", None)
    status, said = place.run(script, edits, "", arguments)
    bare = [part for word in arguments for part in re.split("[=:]", word.lstrip("-")) if part]
    named = [*edits, *arguments, *bare, *map(str, map(meant, edits.values()))]
    fault = fault_of(status, said, [*named, "classes.csv", "in/images"]) or place.changed()
    about = f"{number} {script} {edits} {arguments}"
    tally.add(status, fault and f"{fault}: {said[-600:]}", about)


def main() -> int:
    chance, tally, number = random.Random(seed), Tally(), 0
    with tempfile.TemporaryDirectory() as name:
        place = Workplace(Path(name))
        while tally.count() < tries:
            try_three_ways(place, chance, tally, number)
            try_anything(place, chance, tally, number)
            number += 1
    print(f"{tally.count()} settings: {tally}")
    print("\n".join(tally.faults))
    return 1 if tally.faults else 0


if __name__ == "__main__":
    settings.run_script(globals(), main)
