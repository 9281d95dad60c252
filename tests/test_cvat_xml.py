"""CVAT's own XML, "CVAT for images 1.1"."""

from toolbox.sources import open_source
from toolbox.sources.cvat_xml import CvatXml

import exports
import numpy as np
import pytest
from exports import CORNER, SIZE, SQUARE, ids_of, refused

from dataset import prepare

LABELS = ("road", "car", "unused")


def points(corners) -> str:
    return ";".join(f"{x:.2f},{y:.2f}" for x, y in corners)


def polygon(label: str, corners, z_order: int = 0) -> str:
    return f'<polygon label="{label}" points="{points(corners)}" z_order="{z_order}"></polygon>'


def write(root, pictures: dict[str, str], size=SIZE, subset: str = "", more: str = "") -> None:
    """The XML and its pictures, in the folder of their subset; each has its shapes as text."""
    labels = "".join(f"<label><name>{name}</name></label>" for name in LABELS)
    text = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>\n'
    text += f"<meta><task><labels>{labels}</labels></task></meta>\n"
    for i, (name, shapes) in enumerate(pictures.items()):
        file = root / "images" / subset / (name if "." in name else f"{name}.PNG")
        if not file.exists():
            exports.save_picture(file, sum(str(file).encode()), size)
        inside = f'id="{i}" name="{name}" width="{size[0]}" height="{size[1]}"'
        if subset:
            inside += f' subset="{subset}"'
        text += f"<image {inside}>\n{shapes}\n</image>\n"
    path = root / f"annotations{subset}.xml"
    path.write_text(text + more + "</annotations>\n", encoding="utf-8")


def four(shapes: str = "") -> dict[str, str]:
    return {f"{name}.jpg": polygon("car", SQUARE) + shapes for name in ("a", "b b", "größe", "d")}


def read(folder):
    assert isinstance(open_source(str(folder), ""), CvatXml)
    return prepare(str(folder), "", (16, 16))


def test_polygons_are_drawn_by_their_height_and_classes_are_the_tasks(tmp_path):
    above = polygon("road", CORNER, 1) + polygon("car", [[0, 0], [20, 0], [20, 7], [0, 7]])
    write(tmp_path, four() | {"e.jpg": above, "f.jpg": ""})
    data = read(tmp_path)
    assert data.table.names == ["background", "road", "car"]
    assert data.notes[0].startswith("taken for CVAT's XML: 6 pictures with 6 shapes")
    assert "1 picture(s) have no shape, only background: f.jpg" in data.notes
    assert "no class, as no mask has a pixel of it: unused" in data.notes
    mask = ids_of(data, "größe")
    assert (mask[3:8, 2:9] == 2).all() and (mask == 2).sum() == 35
    assert ids_of(data, "e")[2, 16] == 1 and ids_of(data, "e")[0, 0] == 2


def test_painted_masks_boxes_and_ellipses(tmp_path):
    painted = '<mask label="road" rle="1, 2, 1, 2" left="10" top="4" width="3" height="2"></mask>'
    box = '<box label="road" xtl="10" ytl="2" xbr="18" ybr="4"></box>'
    turned = box.replace('ybr="4"', 'ybr="4" rotation="90"')
    ellipse = '<ellipse label="road" cx="14" cy="8" rx="4" ry="2"></ellipse>'
    upright = ellipse.replace('ry="2"', 'ry="2" rotation="90"')
    kinds = dict(painted=painted, box=box, turned=turned, ellipse=ellipse, upright=upright)
    write(tmp_path, four() | {f"{name}.jpg": shape for name, shape in kinds.items()})
    data = read(tmp_path)
    road = {name: ids_of(data, name) == 1 for name in kinds}
    assert np.argwhere(road["painted"]).tolist() == [[4, 11], [4, 12], [5, 11], [5, 12]]
    assert road["box"][2:4, 10:18].all() and road["box"].sum() == 16
    assert road["turned"][0:7, 13:15].all() and road["turned"][:, [12, 15]].sum() == 0
    assert road["ellipse"][8, 10:19].all() and road["ellipse"][6:11, 14].all()
    assert np.array_equal(road["upright"][4:13, 12:17], road["ellipse"][6:11, 10:19].T)
    assert road["upright"].sum() == road["ellipse"].sum() > 0


def test_lines_are_left_out_and_splits_are_the_subsets(tmp_path):
    line = f'<polyline label="car" points="{points(CORNER)}"></polyline>'
    write(tmp_path, four(line), subset="Train")
    write(tmp_path, four(), subset="Validation")
    data = read(tmp_path)
    assert "4 line(s), point(s) or the like left out: they enclose nothing" in data.notes
    assert {split: len(rows) for split, rows in data.splits.items()} == dict(train=4, val=4)
    for split, subset in (("train", "Train"), ("val", "Validation")):
        rows = data.splits[split]
        assert {data.pairs[row].image.parent.name for row in rows} == {subset}


def test_the_frames_of_a_film_are_named_without_ending(tmp_path):
    write(tmp_path, {f"frame_{i:06d}": polygon("car", SQUARE) for i in range(4)})
    assert len(read(tmp_path).pairs) == 4


def test_all_that_is_wrong_is_said_at_once(tmp_path):
    runs = '<mask label="car" rle="{}" left="0" top="0" width="{}" height="2"></mask>'
    pictures = four()
    pictures["a.jpg"] += runs.format("1, 2", 2) + runs.format("0, 42", 21)
    pictures["größe.jpg"] += polygon("car", CORNER[:2])
    write(tmp_path, pictures)
    (tmp_path / "images" / "b b.jpg").unlink()
    exports.save_picture(tmp_path / "images" / "d.jpg", size=(16, 20))
    (tmp_path / "cut.xml").write_text("<annotations><meta>")
    (tmp_path / "odd.xml").write_text("<annotations><meta/><image/></annotations>")
    said = refused(tmp_path)
    assert "names the picture b b.jpg, which is not in " in said
    assert "shape 2 (car) on " in said and "runs that add up to 3, not to 2×2" in said
    assert "a box of 21×2 pixels in a picture of (20, 16)" in said
    assert "a polygon of 2 point(s), expected 3 or more" in said
    assert "d.jpg is 16×20 (width×height) but its labels" in said
    assert "cut.xml can't be understood as CVAT's XML (ParseError: " in said
    assert "odd.xml can't be understood as CVAT's XML (KeyError: 'name')" in said


def test_a_video_is_named_and_other_xml_is_passed_over(tmp_path):
    write(tmp_path, four(), more="<track></track>")
    assert "is CVAT's XML of a video; export 'Segmentation mask 1.1'" in refused(tmp_path)
    write(tmp_path, four())
    (tmp_path / "notes.xml").write_text("<notes></notes>")
    assert len(read(tmp_path).pairs) == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("is_painted", [False, True])
def test_what_datumaro_writes_is_read_to_the_pixel(tmp_path, is_painted):
    """The library that CVAT exports with; pycocotools, with which it draws."""
    datumaro = pytest.importorskip("datumaro", reason="datumaro is not installed")
    masks = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    rng = np.random.default_rng(0)
    items, expected = [], {}
    for i in range(4):
        pixels = rng.integers(0, 256, (47, 61, 3)).astype(np.uint8)
        image = datumaro.Image.from_numpy(data=pixels, ext=".png")
        shapes, ids = [], np.zeros((47, 61), np.uint8)
        for z_order in range(9):
            flat = (rng.random((5, 2)) * (61, 47)).round(2).ravel().tolist()
            inside = masks.decode(masks.merge(masks.frPyObjects([flat], 47, 61))) > 0
            label = int(rng.integers(2))
            if is_painted:
                shapes.append(datumaro.Mask(inside, label=label, z_order=z_order))
            else:
                shapes.append(datumaro.Polygon(flat, label=label, z_order=z_order))
            ids[inside] = label + 1
        facts = dict(subset="default", media=image, annotations=shapes)
        items.append(datumaro.DatasetItem(f"p{i}", **facts))
        expected[f"p{i}"] = ids
    whole = datumaro.Dataset.from_iterable(items, categories=["road", "car"])
    whole.export(str(tmp_path / "mine"), "cvat", save_media=True)
    data = read(tmp_path / "mine")
    assert data.table.names == ["background", "road", "car"]
    for name, ids in expected.items():
        assert np.array_equal(ids_of(data, name), ids)


@pytest.mark.parametrize(
    "shapes, said",
    [
        ('<polygon label="car" points=""></polygon>', "a polygon of b b.jpg, car: could not"),
        (
            '<mask label="car" rle="1" left="inf" top="0" width="1" height="1"/>',
            "a mask of b b.jpg",
        ),
        ('<box label="car" xtl="1" ytl="1" xbr="2"/>', "a box of b b.jpg, car: 'ybr'"),
    ],
)
def test_a_broken_shape_is_named_with_its_picture(tmp_path, shapes, said):
    pictures = four()
    pictures["b b.jpg"] += shapes
    write(tmp_path, pictures)
    assert said in refused(tmp_path)
