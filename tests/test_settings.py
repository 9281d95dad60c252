import subprocess
import sys

import pytest
from conftest import ROOT

import train
from toolbox.errors import InputError
from toolbox.settings import override, read_constants, settings_of, training_size


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
        ("batch_size=four", "batch_size is 'four'; expected int"),
        ("batch_size=1.5", "batch_size is '1.5'"),
        ("cache=2", "cache is '2'; expected bool"),
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
    with pytest.raises(InputError, match="batch_size is None; expected int"):
        override(module, [str(tmp_path / "wrong.py")])


@pytest.mark.parametrize(
    "side, share, smaller",
    [(80, 0.8, 64), (80, 0.9, 72), (80, 1e-17, 8), (83, 1e-17, 3), (80, 1.0, 80), (5, 0.1, 5)],
)
def test_the_size_in_training_is_padded_as_the_judged_one(side, share, smaller):
    constants = dict(image_size=(side, side), training_scale=share, features=(16, 32, 64), patch=1)
    assert training_size(constants) == (smaller, smaller)


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
