import ast
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from toolbox import kinds
from toolbox.errors import InputError
from toolbox.settings import (
    check,
    override,
    read_constants,
    run_script,
    settings_of,
    training_size,
)

import pytest
from conftest import ROOT

import inference
import train


def test_settings_are_parsed_by_the_type_of_the_default():
    module = dict(
        batch=4, rate=0.1, name="x", flag=True, size=(8, 8), widths=(1, 2, 3), _hidden=1, Upper=2
    )
    override(module, ["batch=8", "rate=1", "name=5", "flag=false", "size=32", "widths=16,32"])
    assert module == dict(
        batch=8, rate=1.0, name="5", flag=False, size=(32, 32), widths=(16, 32), _hidden=1, Upper=2
    )
    assert type(module["rate"]) is float


@pytest.mark.parametrize(
    "argument, sentence",
    [
        ("batch_sise=4", "no constant 'batch_sise'; did you mean batch_size"),
        ("batch_size=four", "batch_size is 'four'; expected a whole number"),
        ("batch_size=1.5", "batch_size is '1.5'"),
        ("cache=2", "cache is '2'; expected True or False"),
        ("nothing.py", "neither a recipe's file nor"),
    ],
)
def test_wrong_settings_get_one_sentence(argument, sentence):
    with pytest.raises(InputError, match=sentence):
        override(dict(batch_size=4, cache=True, base_lr=0.1), [argument])


def test_a_recipe_sets_constants_and_name_value_after_it_wins(tmp_path):
    (tmp_path / "mine.py").write_text('"""Mine."""\nbatch_size = 7\nbase_lr = 1\n')
    module = dict(batch_size=4, base_lr=0.1)
    override(module, [str(tmp_path / "mine.py"), "batch_size=9"])
    assert module == dict(batch_size=9, base_lr=1.0)
    (tmp_path / "typo.py").write_text("batchsize = 7\n")
    with pytest.raises(InputError, match="did you mean batch_size"):
        override(module, [str(tmp_path / "typo.py")])
    (tmp_path / "broken.py").write_text("batch_size 7\n")
    with pytest.raises(InputError, match="broken.py can't be run as a recipe .SyntaxError"):
        override(module, [str(tmp_path / "broken.py")])
    (tmp_path / "wrong.py").write_text("batch_size = None\n")
    with pytest.raises(InputError, match="batch_size is None; expected a whole number"):
        override(module, [str(tmp_path / "wrong.py")])


@pytest.mark.parametrize(
    "side, share, smaller",
    [
        (80, 0.8, 64),
        (80, 0.9, 72),
        (80, 1e-17, 8),
        (80, 1.0, 80),
        (80, (0.5, 1), 80),
        (83, 0.95, 80),
        (87, 0.999, 80),
        (5, 0.1, 5),
    ],
)
def test_nothing_is_padded_in_training(side, share, smaller):
    constants = dict(
        image_size=(side, side),
        crop_size=(0, 0),
        training_scale=share,
        features=(16, 32, 64),
        patch=1,
        padded=True,
    )
    assert training_size(constants) == (smaller, smaller)
    constants.update(padded=False, training_scale=0.5)  # any size loses its border there
    assert training_size(constants) == (round(side / 2), round(side / 2))


def test_train_pys_constants_are_read_as_data():
    assert read_constants() == settings_of(vars(train))
    code = "import sys; from toolbox.settings import read_constants; read_constants()"
    code += "; sys.exit('train' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_an_expression_is_a_number_and_only_plain_names_are_constants(tmp_path):
    lines = [
        '"""A script."""',
        "import os",
        "pictures = 367",
        "training_iterations = 20 * pictures // 4  # 20 epochs",
        "image_size = (360, 480)",
        "base_lr = -1e-2",
        "is_fast = not 0",
        "LIMIT = os.cpu_count()",
        "_hidden = 1",
        "def main():",
        "    inside = 3",
        "os.environ['A'] = 'b'",
    ]
    (tmp_path / "script.py").write_text("\n".join(lines))
    assert read_constants(tmp_path / "script.py") == dict(
        pictures=367,
        training_iterations=1835,
        image_size=(360, 480),
        base_lr=-1e-2,
        is_fast=True,
    )


@pytest.mark.parametrize("value", ["int('4')", "os.cpu_count()", "missing + 1", "1 // 0"])
def test_what_is_no_plain_value_is_refused_by_name(tmp_path, value):
    path = tmp_path / "script.py"
    path.write_text(f"import os\nbatch_size = {value}\n")
    with pytest.raises(InputError) as caught:
        read_constants(path)
    said = str(caught.value)
    assert said.startswith(f"batch_size in script.py is {value}; expected a plain value")


# ---- whatever is written into train.py, a recipe or the command line ----

EDITS = [
    ("batch_size", '"4"', "batch_size is '4'; expected a whole number from 1 to 65,536"),
    ("base_lr", '"1e-3"', "base_lr is '1e-3'; expected a number above 0"),
    (
        "base_lr",
        "1e-2,",
        r"base_lr is (0.01,); expected a number above 0; a comma makes it several",
    ),
    ("ema_decay", "0,999", "ema_decay is (0, 999); expected a number from 0 to below 1; a comma"),
    ("seed", "None", "seed is None; expected a whole number from 0"),
    ("patience", "None", "patience is None; expected a whole number"),
    ("loss", "None", "loss is None; expected a text such as 'ce+dice'"),
    ("augment", '["flip"]', "augment is ['flip']; expected a text such as 'zoom+flip'"),
    ("training_iterations", "1e1", "training_iterations is 10.0; expected a whole number"),
    ("padded", '"False"', "padded is 'False'; expected True or False"),
    ("cache", '"False"', "cache is 'False'; expected True or False"),
    ("image_size", "10**22", "image_size is 10000000000000000000000; expected two whole numbers"),
    ("accum_steps", "10**22", "accum_steps is 10000000000000000000000; expected a whole number"),
    ("patch", "10**22", "patch is 10000000000000000000000; expected a whole number from 1 to 64"),
    ("base_lr", "1e999", "base_lr is inf; expected a number above 0"),
    ("dataset", '"a\\0b"', "dataset is 'a\\x00b'; expected a text"),
    ("features", "(16, 0)", "features is (16, 0); expected one to ten whole numbers"),
    ("device", '"meta"', "device is 'meta', which this machine doesn't offer (expected auto"),
]


def edited(name: str, value: str) -> str:
    """train.py with a constant edited as a user does."""
    lines = (ROOT / "train.py").read_text(encoding="utf-8").splitlines()
    [at] = [i for i, line in enumerate(lines) if line.startswith(f"{name} = ")]
    lines[at] = f"{name} = {value}"
    return "\n".join(lines) + "\n"


def say_of(text: str, arguments: Sequence[str] = ()) -> str:
    """What a train.py of this text says before it reads any data."""
    script = {"__name__": "edited", "__file__": "train.py"}
    exec(compile(text, "train.py", "exec"), script)
    script["prepare"] = None
    sys.argv[1:] = arguments
    with pytest.raises(SystemExit) as caught:
        run_script(script, script["main"])
    return str(caught.value.code)


@pytest.fixture(autouse=True)
def own_arguments(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py"])


@pytest.mark.parametrize("name, value, sentence", EDITS)
def test_a_wrong_kind_in_train_py_ends_in_a_sentence(name, value, sentence):
    assert say_of(edited(name, value)).startswith(sentence)


@pytest.mark.parametrize("name, value, sentence", EDITS)
def test_a_recipe_is_held_to_the_same_table(tmp_path, name, value, sentence):
    recipe = tmp_path / "mine.py"
    recipe.write_text(f"{name} = {value}\n")
    text = (ROOT / "train.py").read_text(encoding="utf-8")
    assert say_of(text, [str(recipe)]).startswith(sentence)


def test_a_single_number_or_a_list_in_train_py_is_what_the_line_may_be_too():
    text = edited("features", "16") + "image_size = [32, 64]\ndropout = 0.1\nresume = False\n"
    constants = {"__file__": "train.py"}
    exec("\n".join(line for line in text.splitlines() if re.match(r"[a-z_]+ = ", line)), constants)
    sys.argv[1:] = ["features=4,8"]
    with pytest.raises(SystemExit) as caught:
        run_script(constants, lambda: 3)
    assert caught.value.code == 3 and constants["features"] == (4, 8)
    assert constants["image_size"] == (32, 64) and constants["dropout"] == (0.1, 0.1)
    assert constants["resume"] == ""


@pytest.mark.parametrize("script", ["model.py", "dataset.py"])
def test_scripts_that_read_train_pys_constants_say_what_is_wrong_with_them(project, script):
    for name, value, sentence in (
        ("batch_size", "int('4')", "batch_size in train.py is int('4'); expected a plain value"),
        ("seed", "None", "seed is None; expected a whole number"),
        ("loss", "(", "can't be read as Python ('(' was never closed"),
    ):
        (project / "train.py").write_text(edited(name, value), encoding="utf-8")
        done = subprocess.run([sys.executable, script], cwd=project, capture_output=True, text=True)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        assert sentence in done.stderr


def test_a_constant_that_was_taken_out_or_renamed_is_asked_for():
    text = (ROOT / "train.py").read_text(encoding="utf-8")
    gone = text.replace("\nbase_lr = 1e-2 ", "\n# ")
    assert say_of(gone).startswith(
        "train.py has no constant base_lr; put back its line, base_lr = …, a number above 0"
    )
    renamed = text.replace("\nbatch_size = 4 ", "\nbatchsize = 4 ")
    assert say_of(renamed).startswith("train.py has no constant batch_size but batchsize; put")
    only_noted = text.replace("\nbatch_size = 4 ", "\nbatch_size: 4 ")
    assert say_of(only_noted).startswith("train.py has no constant batch_size;")


def test_every_constant_has_its_row_in_the_table():
    assert {*read_constants()} == {*kinds.TRAINING}
    assert {*settings_of(vars(inference))} == {*kinds.INFERENCE}
    for name, value in {**settings_of(vars(inference)), **read_constants()}.items():
        assert kinds.KINDS[name].take(value) == value


@pytest.mark.parametrize(
    "lines, sentence",
    [
        ("batch_size: 4\n", "line 1 of mine.py sets nothing; write batch_size = 4"),
        ('"""Only words."""\n', "mine.py sets no constant; expected lines such as batch_size"),
        (
            "import sys\nbatch_size = sys.exit(3)\n",
            "mine.py can't be run as a recipe (SystemExit: 3)",
        ),
        ("batch_size = 1 / 0\n", "mine.py can't be run as a recipe (ZeroDivisionError"),
    ],
)
def test_a_recipe_that_sets_nothing_says_so(tmp_path, monkeypatch, lines, sentence):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(lines)
    with pytest.raises(InputError) as caught:
        override(dict(batch_size=4), ["mine.py"])
    assert str(caught.value).startswith(sentence)


def test_what_a_recipe_imports_to_reckon_with_is_no_constant(tmp_path):
    recipe = tmp_path / "mine.py"
    recipe.write_text("import math\nfrom math import sqrt\nbase_lr = sqrt(4) * math.pi\n")
    module = dict(base_lr=0.1)
    override(module, [str(recipe)])
    assert module == dict(base_lr=pytest.approx(6.283, abs=1e-3))


@pytest.mark.parametrize(
    "argument, sentence",
    [
        ("camvid_small", "; did you mean recipes/camvid_small.py?"),
        ("batch_size", "; write batch_size=VALUE, without blanks"),
        ("--batch-size", "; write batch_size=VALUE, without blanks"),
        ("batch_size = 8", "; write batch_size=VALUE, without blanks"),
        ("mine", "; for a data set, write dataset=mine"),
        ("=", "'=' is neither a recipe's file nor name=value"),
        ("pyproject.toml", "pyproject.toml is no recipe; expected a .py file of constants"),
    ],
)
def test_an_argument_that_is_nothing_gets_the_likely_cure(monkeypatch, argument, sentence):
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError) as caught:
        override(dict(batch_size=4, dataset="x"), [argument])
    assert sentence in str(caught.value)


def test_a_picture_that_is_not_there_is_named_and_so_is_what_is_called_nearly_so(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="there is no file or folder 'nope.jpg'; .*=value$"):
        override(dict(input_dir="x"), ["nope.jpg"])
    (tmp_path / "photos").mkdir()
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "my_cells.py").touch()
    for given, wrong, there in (
        (dict(input_dir="x"), "photo", "photos"),
        (dict(input_dir="x"), str(tmp_path / "photo"), f"{tmp_path.as_posix()}/photos"),
        (dict(dataset="x"), "recipes/my_cels.py", "recipes/my_cells.py"),
    ):
        with pytest.raises(InputError, match=rf"; did you mean {there}\?$"):
            override(given, [wrong])


def test_a_recipe_is_nothing_for_a_script_that_has_a_checkpoint(tmp_path):
    (tmp_path / "mine.py").write_text('dataset = "mine"\n')
    with pytest.raises(InputError, match="mine.py is a recipe, for train.py; .* checkpoint=FILE"):
        override(dict(checkpoint="x", input_dir="y"), [str(tmp_path / "mine.py")])


def test_a_path_alone_is_what_it_looks_like(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "run", "folds/fold-1"):
        Path(name).mkdir(parents=True)
    for name in ("a.png", "b.jpg", "own.pth", "run/last.pth", "folds/fold-1/last.pth"):
        Path(name).touch()
    training, colouring = dict(dataset="streets"), dict(checkpoint="x", input_dir="y", tta=False)
    override(training, ["mine"])
    assert training == dict(dataset="mine")
    for path in ("run", "run/last.pth", "folds"):
        with pytest.raises(InputError, match=f"{path} is a run; to go on with it: resume={path}"):
            override(training, [path])
    override(colouring, ["own.pth", "mine", "--tta=true"])
    assert colouring == dict(checkpoint="own.pth", input_dir="mine", tta=True)
    for path in ("run", "folds"):
        override(colouring, [path])
        assert colouring == dict(checkpoint=path, input_dir="mine", tta=True)
    override(colouring, ["a.png", "b.jpg"])
    assert colouring["input_dir"] == ("a.png", "b.jpg")


@pytest.mark.parametrize(
    "script", ["train.py", "model.py", "dataset.py", "inference.py", "plan.py"]
)
@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_help_shows_what_a_script_does_and_its_constants_with_their_remarks(script, asked):
    done = subprocess.run(
        [sys.executable, script, "batch_size=5", asked], cwd=ROOT, capture_output=True, text=True
    )
    docstring = ast.get_docstring(ast.parse((ROOT / script).read_text(encoding="utf-8")))
    assert done.returncode == 0 and done.stdout.startswith(docstring)
    owner = script if script in ("inference.py", "plan.py") else "train.py"
    lines = [line for line in (ROOT / owner).read_text(encoding="utf-8").splitlines() if line]
    named = {"inference.py": kinds.INFERENCE, "plan.py": ["dataset", "minutes"]}
    for name in named.get(owner, kinds.TRAINING):
        [line] = [line for line in lines if line.startswith(f"{name} = ")]
        assert f"\n{line}\n" in done.stdout


def test_a_recipe_may_set_the_device_that_is_set_already(tmp_path):
    recipe = tmp_path / "mine.py"
    recipe.write_text('device = "cpu"\n')
    module = dict(device="cpu", precision="auto")
    override(module, [str(recipe)])
    override(module, [str(recipe), "device=cuda"])
    assert module == dict(device="cuda", precision="auto")


def test_one_picture_that_ends_as_one_pixel_is_too_little_for_batch_norm():
    constants = settings_of(vars(train))
    single = {"batch_size": 1, "features": (4, 8), "training_scale": 1.0}
    for size, patch, window, is_enough in (
        ((4, 8), 1, (0, 0), True),
        ((4, 4), 1, (0, 0), False),
        ((3, 2), 1, (0, 0), False),
        ((8, 8), 2, (0, 0), False),
        ((64, 64), 1, (4, 4), False),
    ):
        own = {**constants, **single, "image_size": size, "patch": patch, "crop_size": window}
        check({**own, "batch_size": 2})
        check({**own, "padded": False})
        if is_enough:
            check(own)
            continue
        with pytest.raises(InputError, match="batch_size is 1, and .* set batch_size=2"):
            check(own)
    growing = {**constants, **single, "image_size": (8, 8), "training_scale": (0.5, 1.0)}
    with pytest.raises(InputError, match=r"a picture of \(4, 4\) in training"):
        check(growing)
