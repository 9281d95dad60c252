import ast
import re
from pathlib import Path

import pytest
import textbook
import torch
from PIL import Image
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "experiments" / "textbook.py"


def lines_of_docstrings(tree: ast.Module) -> set[int]:
    found = set()
    for node in ast.walk(tree):
        can_have_one = isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        if can_have_one and ast.get_docstring(node):
            found.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return found


def test_it_stays_one_page():
    text = PAGE.read_text(encoding="utf-8")
    lines = text.splitlines()
    docstrings = lines_of_docstrings(ast.parse(text))
    code = []
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.strip().startswith("#") and number not in docstrings:
            code.append(line)
    assert len(code) <= 90
    assert len(lines) <= 140
    assert max(len(line) for line in lines) <= 100


def test_it_imports_nothing_of_the_project():
    names = set()
    for node in ast.walk(ast.parse(PAGE.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    assert names == {"PIL", "pathlib", "subprocess", "sys", "torch", "torchvision"}


def test_what_its_docstring_points_at_is_there():
    files = re.findall(r"\w+\.py", textbook.__doc__)
    assert len(files) >= 9
    for name in files:
        places = [ROOT / name, ROOT / "toolbox" / name, ROOT / "experiments" / name]
        assert any(path.exists() for path in places), name


def test_it_draws_streets_trains_and_prints_a_mean_iou(tmp_path, monkeypatch, capfd):
    text = (ROOT / "Dataset" / "make_streets.py").read_text(encoding="utf-8")
    text = re.sub(r"^PICTURES = .*", "PICTURES = 8", text, flags=re.MULTILINE)
    text = re.sub(r"^SIZE = .*", "SIZE = (36, 58)", text, flags=re.MULTILINE)
    (tmp_path / "Dataset").mkdir()
    (tmp_path / "Dataset" / "make_streets.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    small = {"SIZE": (32, 24), "TRAIN": 5, "TEST": 2, "EPOCHS": 2, "BATCH_SIZE": 2}
    for name, value in small.items():
        monkeypatch.setattr(textbook, name, value)
    textbook.main()
    assert len(list(tmp_path.glob("Dataset/streets/masks/*.png"))) == 8
    printed = capfd.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in printed[:2]] == ["epoch 1", "epoch 2"]
    assert [line.split()[0] for line in printed[2:-1]] == textbook.CLASSES
    mean = re.fullmatch(r"mean IoU +(\d\.\d{3})", printed[-1])
    assert 0 < float(mean[1]) < 1


def test_its_classes_are_those_of_streets():
    from Dataset import make_streets

    assert textbook.CLASSES == [name for name, _ in make_streets.CLASSES]


def test_image_and_mask_are_flipped_together(tmp_path, monkeypatch):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    mask = Image.new("L", textbook.SIZE, 0)
    mask.paste(4, (0, 0, 30, 80))
    mask.save(tmp_path / "masks" / "a.png")
    mask.point(lambda value: 60 * value).convert("RGB").save(tmp_path / "images" / "a.png")
    monkeypatch.setattr(textbook, "FOLDER", tmp_path)
    torch.manual_seed(0)
    pairs = textbook.StreetsDataset(["a.png"], flip=True)
    firsts = set()
    for _ in range(20):
        image, mask = pairs[0]
        assert image.shape == (3, 80, 128) and image.dtype == torch.float32
        assert mask.shape == (80, 128) and mask.dtype == torch.int64
        assert image.max() == pytest.approx(240 / 255)
        assert torch.equal(image[0] > 0, mask == 4)
        firsts.add(mask[0, 0].item())
    assert firsts == {0, 4}  # as it was drawn, and mirrored
    plain = textbook.StreetsDataset(["a.png"], flip=False)
    assert all(plain[0][1][0, 0] == 4 for _ in range(20))


def test_a_mask_is_made_smaller_without_new_classes(tmp_path, monkeypatch):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    mask = Image.new("L", (232, 144), 0)
    mask.paste(8, (0, 0, 101, 67))
    mask.save(tmp_path / "masks" / "a.png")
    mask.convert("RGB").save(tmp_path / "images" / "a.png")
    monkeypatch.setattr(textbook, "FOLDER", tmp_path)
    _, mask = textbook.StreetsDataset(["a.png"], flip=False)[0]
    assert mask.unique().tolist() == [0, 8]


@pytest.mark.parametrize("height, width", [(8, 8), (80, 128), (16, 40)])
def test_sizes_that_are_multiples_of_8_come_back(height, width):
    model = textbook.UNet(9).eval()
    logits = model(torch.rand(2, 3, height, width))
    assert logits.shape == (2, 9, height, width)
    assert textbook.predict(model, torch.rand(3, height, width)).shape == (height, width)


def test_batch_norm_learns_in_a_step_and_stands_still_in_a_prediction():
    model = textbook.UNet(3, features=(4,))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    norm = model.downs[0][1]
    textbook.predict(model, torch.rand(3, 8, 8))
    assert not model.training and norm.num_batches_tracked == 0
    textbook.train_step(model, optimizer, torch.rand(2, 3, 8, 8), torch.zeros(2, 8, 8).long())
    assert model.training and norm.num_batches_tracked == 1


def test_a_prediction_keeps_no_gradients():
    grad_modes = []
    model = textbook.UNet(3, features=(4,))
    model.register_forward_hook(lambda *_: grad_modes.append(torch.is_grad_enabled()))
    textbook.predict(model, torch.rand(3, 8, 8))
    assert grad_modes == [False]


def test_a_step_moves_the_weights_to_a_lower_loss():
    torch.manual_seed(0)
    model = textbook.UNet(3, features=(4, 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    images = torch.rand(2, 3, 16, 16)
    masks = (3 * images[:, 0]).long().clamp(max=2)
    losses = [textbook.train_step(model, optimizer, images, masks) for _ in range(20)]
    assert all(isinstance(loss, float) for loss in losses)
    assert losses[-1] < 0.7 * losses[0]


def test_pixels_without_a_class_add_nothing_to_the_loss():
    torch.manual_seed(0)
    model = textbook.UNet(3, features=(4,))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    images = torch.rand(1, 3, 8, 8)
    masks = torch.full((1, 8, 8), textbook.IGNORE)
    masks[0, 0] = 1
    loss = textbook.train_step(model, optimizer, images, masks)
    labelled = model(images)[0, :, 0].T  # (W, K), the one row that has a class
    expected = nn.functional.cross_entropy(labelled, masks[0, 0])
    assert loss == pytest.approx(expected.item())


def test_ious_of_one_confusion_matrix_are_those_worked_by_hand(monkeypatch):
    monkeypatch.setattr(textbook, "CLASSES", ["a", "b", "c"])
    monkeypatch.setattr(textbook, "predict", lambda model, image: image)
    preds = [torch.tensor([[0, 0, 1, 1]]), torch.tensor([[1, 1, 0, 0]])]
    masks = [torch.tensor([[0, 0, 0, 1]]), torch.tensor([[1, 0, 0, 255]])]
    ious = textbook.class_ious(None, list(zip(preds, masks)))
    # a: both 3, and 2 more that are a; b: both 2, and 2 more taken for it; c: nowhere
    assert ious[:2].tolist() == pytest.approx([3 / 5, 2 / 4])
    assert ious[2].isnan()
