"""The laws of the house: who may import whom, and how long files and lines may be."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from conftest import ROOT

# Each imports only those before it, and has so many lines at most.
FIVE = {"model": 250, "dataset": 260, "utils": 220, "train": 320, "inference": 150}


def toolbox_files(root: Path) -> dict[str, Path]:
    """The files of the toolbox by the names that they are imported by."""
    files = {}
    for path in sorted((root / "toolbox").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        files[".".join(parts)] = path
    return files


def imports_of(path: Path) -> set[str]:
    """Every name that a file imports, wherever in it; a.b.c for `from a.b import c`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = "." * node.level + (node.module or "")
            found.update(f"{start}.{alias.name}" for alias in node.names)
    return found


def five_of(names: set[str]) -> list[str]:
    """Those of the five that are among imported names."""
    firsts = {name.partition(".")[0] for name in names}
    return [name for name in FIVE if name in firsts]


def lessons_in_the_toolbox(root: Path) -> list[str]:
    """Where the toolbox imports one of the five, or could do so unseen."""
    found = []
    for name, path in toolbox_files(root).items():
        imported = imports_of(path)
        found += [f"{name} imports {other}" for other in five_of(imported)]
        if any(other.startswith(".") for other in imported):
            found.append(f"{name} imports relatively")
        words = {
            node.id
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if is_name(node)
        }
        for word in ("importlib", "import_module", "__import__"):
            if word in words:
                found.append(f"{name} uses {word}")
    return found


def is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name)


def constants_in_the_toolbox(root: Path) -> list[str]:
    """Lower-case values of a toolbox file: they would be constants that nobody can set."""
    found = []
    for name, path in toolbox_files(root).items():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names = [one.id for target in targets for one in ast.walk(target) if is_name(one)]
                found += [f"{name}.{one}" for one in names if one.islower()]
    return found


def file_of(name: str, files: dict[str, Path]) -> str:
    """The file of the toolbox that an imported name is in, or ""."""
    while name and name not in files:
        name = name.rpartition(".")[0]
    return name


def circles(root: Path) -> list[str]:
    """Files of the toolbox that import one another in a circle."""
    files = toolbox_files(root)
    edges = {}
    for name, path in files.items():
        edges[name] = {file_of(other, files) for other in imports_of(path)} - {""}
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return [" -> ".join(error.args[1])]
    return []


def out_of_order(root: Path) -> list[str]:
    """Where one of the five imports itself or one that comes after it."""
    found = []
    for i, name in enumerate(FIVE):
        for other in five_of(imports_of(root / f"{name}.py")):
            if other not in [*FIVE][:i]:
                found.append(f"{name} imports {other}")
    return found


def count_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def too_long(root: Path) -> list[str]:
    """Files over their budget of lines."""
    lengths = {name: count_lines(root / f"{name}.py") for name in FIVE}
    found = [f"{name} has {length}" for name, length in lengths.items() if length > FIVE[name]]
    if sum(lengths.values()) > 1200:
        found.append(f"the five have {sum(lengths.values())}")
    for name, path in toolbox_files(root).items():
        if count_lines(path) > 250:
            found.append(f"{name} has {count_lines(path)}")
    return found


def too_wide(root: Path) -> list[str]:
    """Lines of more than 100 characters, in any file of Python that is ours."""
    found = []
    for path in sorted(root.rglob("*.py")):
        place = path.relative_to(root)
        if any(part.startswith((".", "venv")) for part in place.parts):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            if len(line) > 100:
                found.append(f"{place}:{number} has {len(line)}")
    return found


COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def says_several_things(node: ast.AST) -> bool:
    """A call with a conditional folded into it; a comprehension of two levels, or with a walrus."""
    if isinstance(node, ast.Call):
        given = [*node.args, *(keyword.value for keyword in node.keywords)]
        return any(isinstance(value, ast.IfExp) for value in given)
    if isinstance(node, COMPREHENSIONS):
        has_walrus = any(isinstance(inner, ast.NamedExpr) for inner in ast.walk(node))
        return has_walrus or len(node.generators) > 1
    return False


def several_at_once(root: Path) -> list[str]:
    """Where a statement of the scripts or the toolbox says several things."""
    found = []
    for path in sorted([*root.glob("*.py"), *(root / "toolbox").rglob("*.py")]):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if says_several_things(node):
                found.append(f"{path.relative_to(root)}:{node.lineno} says several things")
    return found


LAWS = (
    lessons_in_the_toolbox,
    constants_in_the_toolbox,
    circles,
    out_of_order,
    too_long,
    too_wide,
    several_at_once,
)


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_the_house_keeps_its_laws(law):
    assert law(ROOT) == []


@pytest.fixture
def small_house(tmp_path) -> Path:
    """Five files and a toolbox of three that keep all laws."""
    (tmp_path / "toolbox" / "sources").mkdir(parents=True)
    texts = {
        "model.py": "import torch\n",
        "dataset.py": "from toolbox.sources import base\n",
        "utils.py": "import model, dataset\n",
        "train.py": "from model import build\nbatch_size = 4\n",
        "inference.py": "import train\nfrom toolbox import a\n",
        "toolbox/__init__.py": '"""Nothing."""\n',
        "toolbox/a.py": "import os\nLIMIT = 8\n",
        "toolbox/b.py": "def f():\n    from toolbox.a import LIMIT\n    train = LIMIT\n",
        "toolbox/sources/__init__.py": "from toolbox.sources import base\n",
        "toolbox/sources/base.py": "from toolbox import b\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    for law in LAWS:
        assert law(tmp_path) == []
    return tmp_path


MISTAKES = [
    ("toolbox/a.py", "import train", "toolbox.a imports train"),
    ("toolbox/sources/base.py", "def f():\n    from model import UNet", "base imports model"),
    ("toolbox/a.py", "from inference import tile", "toolbox.a imports inference"),
    ("toolbox/b.py", "from .. import x", "toolbox.b imports relatively"),
    ("toolbox/b.py", "__import__('train')", "toolbox.b uses __import__"),
    ("toolbox/a.py", "speed: int = 3", "toolbox.a.speed"),
    ("toolbox/a.py", "x, A = 1, 2", "toolbox.a.x"),
    ("toolbox/a.py", "import toolbox.b", "toolbox.a -> toolbox.b -> toolbox.a"),
    ("toolbox/a.py", "def f():\n    from toolbox.sources.base import x", "toolbox.sources.base"),
    ("toolbox/b.py", "from toolbox import sources", "toolbox.sources"),
    ("model.py", "import dataset", "model imports dataset"),
    ("utils.py", "def f():\n    from train import loss", "utils imports train"),
    ("train.py", "import os, inference", "train imports inference"),
    ("train.py", "X = 1\n" * 319, "train has 322"),
    ("toolbox/b.py", "\n" * 248, "toolbox.b has 252"),
    ("train.py", "# " + "ö" * 99, "train.py:3 has 101"),
    ("toolbox/sources/base.py", "#" * 101, "base.py:2 has 101"),
    ("train.py", "print(1 if batch_size else 2)", "train.py:3 says several things"),
    ("train.py", "print(1, end='' if batch_size else '.')", "train.py:3 says"),
    ("toolbox/b.py", "X = [b for a in [[1]] for b in a]", "b.py:4 says several things"),
    ("toolbox/b.py", "X = {b for a in '12' if (b := int(a))}", "b.py:4 says several things"),
]


@pytest.mark.parametrize("file, mistake, said", MISTAKES)
def test_a_mistake_breaks_one_law(small_house, file, mistake, said):
    with open(small_house / file, "a", encoding="utf-8") as text:
        text.write(mistake + "\n")
    (broken,) = [found for law in LAWS if (found := law(small_house))]
    assert said in broken[0]


def test_the_five_together_have_a_budget(small_house):
    for name, most in FIVE.items():
        (small_house / f"{name}.py").write_text("\n" * most)
    assert sum(FIVE.values()) == 1200 and too_long(small_house) == []
    for name, most in FIVE.items():
        (small_house / f"{name}.py").write_text("\n" * (most + 1))
        assert too_long(small_house) == [f"{name} has {most + 1}", "the five have 1201"]
        (small_house / f"{name}.py").write_text("\n" * most)
