"""Folders as people have them: under other names, side by side, a folder for each class, in
transparency alone, as arrays; and what is said where it could be two things."""

import itertools
import json
import re
import shutil
from pathlib import Path

from toolbox.errors import InputError
from toolbox.masks import IGNORE
from toolbox.names import likely_cure
from toolbox.prepared import overview
from toolbox.sources.layouts import role_of

import numpy as np
import pytest
from PIL import Image

from dataset import prepare

SIZE = (16, 24)


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), np.uint8))


def truth(seed: int) -> np.ndarray:
    """A square of ones, another in each picture."""
    ids = np.zeros(SIZE, np.uint8)
    y, x = 2 + seed % 5, 3 + seed
    ids[y : y + 6, x : x + 6] = 1
    return ids


def save_pairs(root: Path, image: str, mask: str, numbers=range(6), factor: int = 255) -> Path:
    """Pictures and masks whose paths have {} for a number."""
    for i in numbers:
        for path, made in ((image, picture(i)), (mask, Image.fromarray(truth(i) * factor))):
            place = root / path.format(i)
            place.parent.mkdir(parents=True, exist_ok=True)
            if place.suffix == ".npy":
                np.save(place, np.array(made) // factor)
            else:
                made.save(place)
    return root


def read(root: Path):
    return prepare(str(root), "", (8, 8))


def refused(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        read(root)
    return str(caught.value)


def check_ids(data) -> None:
    """Each picture has the square of its own number."""
    for pair in data.pairs:
        number = int(re.findall("[0-9]+", pair.image.stem)[-1])
        ids = data.source.read_values(pair.mask)
        meaning = data.table.meaning
        read_ids = np.vectorize(meaning.get)(ids)
        assert np.array_equal(read_ids, truth(number)), pair
        assert np.array_equal(np.array(Image.open(pair.image)), np.array(picture(number))) or (
            pair.image.suffix in (".jpg", ".JPG", ".jfif")
        )


FLAT = {
    "Kaggle, capitals": ("Images/{}.png", "Masks/{}.png"),
    "image and label": ("image/{}.png", "label/{}.png"),
    "imgs and masks": ("imgs/{}.jpg", "masks/{}.png"),
    "JPEGImages and SegmentationClass": ("JPEGImages/{}.jpg", "SegmentationClass/{}.png"),
    "ground truth": ("Original/{}.tif", "Ground Truth/{}.tif"),
    "annotations": ("images/{}.jpg", "annotations/{}.png"),
    "annotations in a folder": ("images/{}.jpg", "annotations/trimaps/{}.png"),
    "unpacked into folders of their names": ("imgs/imgs/{}.jpg", "labels/labels/{}.png"),
    "OpenMMLab": ("img_dir/{}.jpg", "ann_dir/{}.png"),
    "gt": ("input/im{}.bmp", "GT/im{}.bmp"),
    "x and y": ("x/{}.png", "y/{}.png"),
    "targets": ("inputs/{}.png", "targets/{}.png"),
    "arrays": ("images/{}.png", "labels/{}.npy"),
    "segmentation ending": ("img/ISIC_{:07}.jpg", "gt/ISIC_{:07}_segmentation.png"),
    "pictures beside the folder of masks": ("{}.jpg", "masks/{}.png"),
    "side by side, _mask": ("cat{}.jpg", "cat{}_mask.png"),
    "side by side, -label": ("cat{}.png", "cat{}-label.png"),
    "side by side, _Seg of another ending": ("cat{}.tif", "cat{}_Seg.png"),
    "side by side, jpg and png": ("cat{}.jpg", "cat{}.png"),
    "side by side, JPG and bmp": ("cat{}.JPG", "cat{}.bmp"),
    "side by side, png and npy": ("cat{}.png", "cat{}.npy"),
}


@pytest.mark.parametrize("kind", FLAT)
def test_a_folder_under_other_names_is_read_and_said_what_it_was_taken_for(tmp_path, kind):
    root = save_pairs(tmp_path / "own", *FLAT[kind])
    data = read(root)
    assert len(data.pairs) == 6 and list(data.splits) == ["train", "val", "test"]
    check_ids(data)
    taken = [note for note in data.notes if "taken" in note]
    assert len(taken) == 1 and taken[0] in overview(data)


SPLIT = {
    "x_train": ("x_{split}/{{}}.png", "y_{split}/{{}}.png"),
    "train_images": ("{split}_images/{{}}.jpg", "{split}_masks/{{}}.png"),
    "trainannot": ("{split}/{{}}.png", "{split}annot/{{}}.png"),
    "train_masks": ("{split}/{{}}.jpg", "{split}_masks/{{}}_mask.gif"),
    "train/gt": ("{split}/images/{{}}.png", "{split}/gt/{{}}.png"),
    "images/train": ("Images/{split}/{{}}.png", "labels/{split}/{{}}.png"),
    "side by side": ("{split}/{{}}.jpg", "{split}/{{}}_mask.png"),
    "ISIC": ("ISIC_{split}_Input/{{}}.jpg", "ISIC_{split}_GroundTruth/{{}}_segmentation.png"),
    "usual": ("{split}/images/{{}}.png", "{split}/masks/{{}}.png"),
    "usual inside": ("images/{split}/{{}}.png", "masks/{split}/{{}}.png"),
}


@pytest.mark.parametrize("kind", SPLIT)
@pytest.mark.parametrize(
    "words", [("train", "val", "test"), ("Training", "Validation", "Testing"), ("train", "valid")]
)
def test_splits_under_other_names_are_kept(tmp_path, kind, words):
    root = tmp_path / "own"
    for split, numbers in zip(words, (range(4), range(4, 6), range(6, 8))):
        paths = [path.format(split=split) for path in SPLIT[kind]]
        save_pairs(root, *paths, numbers)
    data = read(root)
    check_ids(data)
    files = {split: sorted(data.files(rows)) for split, rows in data.splits.items()}
    numbers = {
        split: [int(name.partition(".")[0]) for name in names] for split, names in files.items()
    }
    expected = {"train": [0, 1, 2, 3], "val": [4, 5], "test": [6, 7]}
    assert numbers == {split: expected[split] for split in list(expected)[: len(words)]}


def test_a_split_without_masks_is_left_out_and_said_so(tmp_path):
    root = save_pairs(tmp_path / "own", "train/images/{}.png", "train/gt/{}.png")
    (root / "test" / "images").mkdir(parents=True)
    picture(9).save(root / "test" / "images" / "9.png")
    assert any("test/images is left out: no masks were found for it" in n for n in read(root).notes)


@pytest.mark.parametrize(
    "name, role",
    [
        ("trainannot", ("train", "masks")),
        ("XTrain", ("train", "images")),
        ("label_images", ("", "masks")),
        ("Validation", ("val", "")),
        ("ISIC2018_Task1-2_Training_Input", ("train", "images")),
        ("SegmentationObject", ("", "other")),
        ("train_test", ("", "other")),
        ("__", ("", "other")),
        ("latest", ("", "other")),
        ("holiday", ("", "other")),
    ],
)
def test_what_a_folders_name_says(name, role):
    assert role_of(Path(name)) == role


def test_masks_as_roboflow_writes_them_have_its_classes(tmp_path):
    root = tmp_path / "own"
    for split, numbers in (("train", range(4)), ("valid", range(4, 6)), ("test", range(6, 8))):
        save_pairs(root / split, "a_jpg.rf.{}.jpg", "a_jpg.rf.{}_mask.png", numbers, factor=2)
        text = "Pixel Value, Class\n0, background\n1, dog\n2, cat, big\n"
        (root / split / "_classes.csv").write_text(text)
    data = read(root)
    check_ids(data)
    assert data.table.names == ["background", "cat, big"]
    assert [len(rows) for rows in data.splits.values()] == [4, 2, 2]
    assert "dog in _classes.csv have no pixel, and are left out" in data.notes
    (root / "test" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n2, dog\n")
    assert "test/_classes.csv has other classes than" in refused(root)
    (root / "test" / "_classes.csv").write_text("Pixel Value, Class\ncat\n")
    assert "has the row 'cat'; expected a number and a name" in refused(root)
    for split in ("train", "valid", "test"):
        (root / split / "_classes.csv").write_text("Pixel Value,Class\n0,ground\n1,cat\n")
    assert "pixels), which _classes.csv does not name; add them there" in refused(root)
    for split in ("train", "valid", "test"):  # what Roboflow writes for whole pictures' labels
        (root / split / "_classes.csv").write_text("filename,cat\na.jpg,1\n")
    assert read(root).table.names == ["background", "object"]
    (root / "classes.csv").write_text("id,name,red,green,blue\n0,a,0,0,0\n1,b,2,2,2\n")
    assert read(root).table.names == ["a", "b"]


# ---- what could be two things ----


def test_two_folders_that_may_be_the_masks_are_a_sentence(tmp_path):
    root = save_pairs(tmp_path / "own", "images/{}.png", "1st_manual/{}.png")
    save_pairs(tmp_path / "own", "images/{}.png", "mask/{}.png")  # DRIVE has the lens in mask
    said = refused(root)
    assert re.search("1st_manual, .*mask may each hold the masks; which one is not to be", said)


def test_images_and_masks_are_taken_though_there_are_labels_too(tmp_path):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.png")
    save_pairs(root, "imgs/{}.png", "labels/{}.png", range(3))
    data = read(root)
    assert len(data.pairs) == 6 and data.notes == ["background is 0, the object 255"]


def test_two_files_of_one_name_that_may_both_be_masks_are_a_sentence(tmp_path):
    root = save_pairs(tmp_path / "own", "cat{}.tif", "cat{}.png")
    assert "end in .png, .tif, and which of them are the masks is not to be guessed" in refused(
        root
    )
    root = save_pairs(tmp_path / "two", "cat{}.jpg", "cat{}_mask.png")
    save_pairs(root, "cat{}.jpg", "cat{}_label.png")
    assert "end in _label, _mask, and each may be the masks" in refused(root)


def test_a_picture_or_mask_that_is_left_over_side_by_side_is_named(tmp_path):
    root = save_pairs(tmp_path / "own", "cat{}.jpg", "cat{}_mask.png")
    (root / "cat1.jpg").unlink()
    (root / "cat2_mask.png").unlink()
    said = refused(root)
    assert "cat1_mask.png has no image" in said and "cat2.jpg has no mask" in said
    assert "2 thing(s)" in said
    root = save_pairs(tmp_path / "two", "cat{}.jpg", "cat{}.png")
    (root / "cat1.png").unlink()
    assert "1 thing(s)" in refused(root) and "cat1.jpg has no mask" in refused(root)


def test_pictures_and_masks_side_by_side_whose_names_nearly_fit_are_named(tmp_path):
    root = save_pairs(tmp_path / "own", "{}_sat.jpg", "{}_mask.png")
    said = refused(root)
    assert "all 6 masks end in _mask and all 6 images end in _sat" in said
    assert "6 pairs fit (0_sat with 0_mask" in said


def test_images_in_images_are_read(tmp_path):
    """As archives are often unpacked."""
    root = save_pairs(tmp_path / "own", "images/images/{}.png", "masks/masks/{}.png")
    check_ids(read(root))


def test_the_one_folder_in_annotations_that_is_called_as_masks_are_is_no_class(tmp_path):
    """As the Oxford pets lie."""
    root = save_pairs(tmp_path / "own", "images/{}.jpg", "annotations/trimaps/{}.png")
    for i in range(6):
        ids = truth(i) + 1
        ids[-1] = 3
        Image.fromarray(ids).save(root / "annotations" / "trimaps" / f"{i}.png")
    assert "hold 3 values: 1 (" in refused(root) and "\n2,class2," in refused(root)


def test_texts_beside_pictures_are_left_out_and_said(tmp_path):
    """A licence; what a labelling tool has of a picture of the same name."""
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.png")
    for name in ("images/LICENSE.txt", "images/1.json", "masks/2.xml"):
        (root / name).write_text("{}")
    data = read(root)
    assert len(data.pairs) == 6
    assert "2 text(s) beside pictures left out: 1.json, LICENSE.txt" in data.notes
    assert "1 text(s) beside pictures left out: 2.xml" in data.notes
    beside = save_pairs(tmp_path / "beside", "{}.jpg", "{}_mask.png")
    (beside / "readme.md").write_text("what else lies in the folder of all is nobody's picture")
    assert not any("text" in note for note in read(beside).notes)


def test_a_folder_for_each_picture_with_a_mask_for_each_object(tmp_path):
    """As the nuclei of the Data Science Bowl lie."""
    root = tmp_path / "stage1_train"
    for i in range(6):
        save_pairs(root, f"p{i}/images/{{}}.png", f"p{i}/masks/{{}}.png", [i])
        whole = truth(i)
        for half in ("upper", "lower"):
            part = whole.copy()
            rows = np.arange(SIZE[0]) < 5
            part[rows if half == "upper" else ~rows] = 0
            Image.fromarray(part * 255).save(root / f"p{i}" / "masks" / f"{half}.png")
        (root / f"p{i}" / "masks" / f"{i}.png").unlink()
    save_pairs(root, "bare/images/{}.png", "bare/masks/{}.png", [9])
    (root / "bare" / "masks" / "9.png").unlink()
    assert "stage1_train looks like a data set: set dataset to it" in refused(tmp_path)
    data = read(root)
    check_ids(data)
    assert data.table.names == ["background", "object"]
    assert data.notes[0].endswith("12 masks of 6 pictures; all are one class")
    assert "1 picture(s) without any mask left out: 9.png" in data.notes
    Image.fromarray(truth(2)[1:]).save(root / "p2" / "masks" / "upper.png")
    assert "upper.png has another size than " in refused(root)


def test_masks_of_many_pages_are_named_not_read_in_part(tmp_path):
    root = save_pairs(tmp_path / "own", "images/{}.tif", "masks/{}.tif")
    pages = [Image.fromarray(truth(i) * 255) for i in range(3)]
    pages[0].save(root / "masks" / "4.tif", save_all=True, append_images=pages[1:])
    said = refused(root)
    assert "4.tif holds 3 pictures, of which the first alone would be read; save each" in said
    assert "1 thing(s)" in said
    whole = Image.fromarray(truth(4) * 255)
    preview = whole.resize((SIZE[1] // 2, SIZE[0] // 2))
    whole.save(root / "masks" / "4.tif", save_all=True, append_images=[preview])
    check_ids(read(root))
    channels = picture(3).split()  # as ImageJ saves them
    channels[0].save(root / "images" / "3.tif", save_all=True, append_images=channels[1:])
    said = refused(root)
    assert "3.tif holds 3 pictures" in said and "its channels, save it as one RGB picture" in said


def test_masks_of_one_bit_beside_masks_of_eight_are_told(tmp_path):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.png")
    for i in range(3):
        Image.fromarray(truth(i) * 255).convert("1").save(root / "masks" / f"{i}.png")
    said = refused(root)
    assert "some masks in" in said and "hold 0 and 1, others 0 and 255, none both" in said
    (root / "classes.csv").write_text(said.partition("classes.csv:\n")[2])
    data = read(root)  # as it says: 255 is ignored
    assert data.table.names == ["background", "object"] and data.table.meaning[255] == IGNORE
    (root / "classes.csv").unlink()
    both = truth(5)
    both[0, :4] = 255
    Image.fromarray(both).save(root / "masks" / "5.png")
    assert read(root).table.meaning == {0: 0, 1: 1, 255: IGNORE}


@pytest.mark.parametrize(
    "colors",
    [
        [(255, 255, 255), (0, 0, 0)],  # a palette's, whose 1 is black
        [(255, 0, 0), (255, 255, 255)],
        [(0, 0, 0), (255, 0, 0)],
    ],
)
@pytest.mark.parametrize("mode", ["P", "RGB", "RGBA"])
def test_the_background_is_black_or_else_white_where_masks_have_colours(tmp_path, colors, mode):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.png")
    is_object = colors.index((255, 0, 0)) if (255, 0, 0) in colors else 0
    for i in range(6):
        numbers = truth(i) if is_object else 1 - truth(i)
        mask = Image.fromarray(numbers, "P")
        mask.putpalette([*itertools.chain(*colors)])
        if mode != "P":
            mask = mask.convert(mode)
        if mode == "RGBA":  # transparent paper, opaque things
            mask.putalpha(Image.fromarray(truth(i) * 255))
        mask.save(root / "masks" / f"{i}.png")
    data = read(root)
    check_ids(data)
    assert any(note.startswith("background is ") for note in data.notes)


def test_a_mask_without_anything_opaque_is_empty_whatever_its_colour(tmp_path):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.png")
    for i in range(6):
        mask = Image.new("RGBA", SIZE[::-1], "white" if i else (0, 0, 0, 0))
        if i:
            mask.putalpha(Image.fromarray(truth(i) * 255))
        mask.save(root / "masks" / f"{i}.png")
    data = read(root)
    found = [data.source.read_values(pair.mask).max() for pair in data.pairs]
    assert found == [0, 255, 255, 255, 255, 255]


def test_what_else_lies_there_does_no_harm(tmp_path):
    root = save_pairs(tmp_path / "own", "{}/images/{}.png", "{}/masks/{}.png", [])
    for i in range(5):
        save_pairs(root, f"p{i}/images/{{}}.png", f"p{i}/masks/{{}}.png", [i])
        Image.fromarray(truth(i + 1) * 255).save(root / f"p{i}" / "masks" / "other.png")
    for place in ("__MACOSX/images", "p0/images/@eaDir", "bare/images"):  # macOS's, Synology's
        (root / place).mkdir(parents=True)
    picture(9).save(root / "bare" / "images" / "9.png")
    data = read(root)
    assert len(data.pairs) == 5
    assert "1 picture(s) without any mask left out: 9.png" in data.notes


def test_endings_and_arrays_of_all_kinds(tmp_path):
    root = save_pairs(tmp_path / "own", "photos/{}.jpg", "masks/{}.npy")
    (root / "photos" / "3.jpg").rename(root / "photos" / "3.jfif")
    assert len(read(root).pairs) == 6
    save_pairs(tmp_path / "beside", "cat{}.jpg", "cat{}_mask.png")
    (tmp_path / "beside" / "cat3.jpg").rename(tmp_path / "beside" / "cat3.jfif")
    assert len(read(tmp_path / "beside").pairs) == 6
    np.save(root / "masks" / "4.npy", truth(4).astype(np.float16))
    check_ids(read(root))
    np.save(root / "masks" / "4.npy", (truth(4) * 0.999).astype(np.float16))
    assert "4.npy holds 0.999" in refused(root)


def test_masks_of_one_class_may_say_it_by_transparency(tmp_path):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/cat/{}.png")
    for path in (root / "masks" / "cat").iterdir():
        mask = Image.new("RGBA", SIZE[::-1], "white")
        mask.putalpha(Image.open(path))
        mask.save(path)
    data = read(root)
    assert data.table.names == ["background", "cat"]
    check_ids(data)


# ---- lists of a split ----


@pytest.mark.parametrize("place", ["", "ImageSets/Segmentation", "splits"])
@pytest.mark.parametrize("line", ["{}", "images/{}.png", "images/{0}.png masks/{0}_m.png"])
def test_lists_say_which_pictures_are_for_what(tmp_path, place, line):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.png")
    (root / place).mkdir(parents=True, exist_ok=True)
    for name, numbers in (("train", (0, 2, 4)), ("val", (5, 1)), ("trainval", (0, 1, 2, 4, 5))):
        lines = [line.format(i) for i in numbers]
        (root / place / f"{name}.txt").write_text("\n".join(lines) + "\n")
    data = read(root)
    stems = {}
    for split, rows in data.splits.items():
        stems[split] = sorted(data.pairs[row].image.stem for row in rows)
    assert stems == {"train": ["0", "2", "4"], "val": ["1", "5"]}
    where = f"{place}/" if place else ""
    assert f"the splits are those of {where}train.txt, {where}val.txt" in data.notes
    assert "1 picture(s) in none of them left out: 3" in data.notes


def test_lists_of_other_things_or_that_contradict_each_other_are_told(tmp_path):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.png")
    (root / "train.txt").write_text("0\n1\n")
    assert "test" in read(root).splits  # one list alone splits nothing
    (root / "val.txt").write_text("1\n2\n")
    assert re.search("1 stand in .*train.txt and in .*val.txt; a picture is in one", refused(root))
    for name in ("train", "val"):
        (root / f"{name}.txt").write_text("some other words\n")
    data = read(root)
    assert len(data.splits["train"]) == 4
    assert any("name no picture that is here" in note for note in data.notes)


def test_what_is_found_is_said_where_nothing_can_be_read(tmp_path):
    root = save_pairs(tmp_path / "own", "photographs/{}.png", "masks/{}.png")
    said = refused(root)
    assert "own/images is not there; " in said
    assert "own holds masks (pictures: 6), photographs (pictures: 6); if masks holds the" in said
    assert "masks, call the folder of their pictures images. Dataset/readme.md shows" in said
    root = save_pairs(tmp_path / "deep", "inner/images/{}.png", "inner/masks/{}.png")
    assert "deep/inner looks like a data set: set dataset to it" in refused(root)
    for name in ("a", "b", "c"):  # one folder for each picture
        save_pairs(tmp_path / "nuclei", f"{name}/images/{{}}.png", f"{name}/masks/{{}}.png", [0])
    assert "each of a, b, c has images and masks of its own" in refused(tmp_path / "nuclei")
    for name in ("a", "b"):
        save_pairs(tmp_path / "brains", f"{name}/{{}}.tif", f"{name}/{{}}_mask.tif")
    assert "each of a, b has images and masks of its own" in refused(tmp_path / "brains")
    for name in ("a", "b"):
        save_pairs(tmp_path / "odd", f"{name}/{{}}.tif", f"{name}/{{}}.tif")
    assert "odd holds a (pictures: 6), b (pictures: 6); call the folder of" in refused(
        tmp_path / "odd"
    )
    save_pairs(tmp_path / "alone", "{}.jpg", "more/{}.txt.png", range(2))
    said = refused(tmp_path / "alone")
    assert "2 pictures side by side, of which none is another's mask" in said


def test_pairs_in_a_split_and_outside_are_a_sentence(tmp_path):
    root = save_pairs(tmp_path / "own", "imgs/{}.png", "labels/{}.png")
    save_pairs(root, "val/{}.jpg", "val/{}_mask.png", range(6, 8))
    assert "which is a split: put all of them into splits, or none" in refused(root)


# ---- names that do not fit ----


@pytest.mark.parametrize(
    "images, masks, said",
    [
        (
            ["img_001", "img_002", "img_003", "img_004"],
            ["mask_001", "mask_002", "mask_003", "mask_004"],
            "pairs fit (img_001 with mask_001, img_002 with mask_002, img_003 with mask_003): ren",
        ),
        (
            ["cat 7", "dog 12", "cow 30"],
            ["a7b", "c012", "30"],
            "number in their names, and may belong together (cat 7 with a7b, dog 12 with c012, cow",
        ),
        (
            ["cat", "dog", "cow 2", "cow 10"],
            ["0", "1", "2", "3"],
            "masks are numbered from 0 to 3, and may follow the order of the others' names "
            "(cat with 0, cow 2 with 1, cow 10 with 2): look at some",
        ),
        (
            ["1", "2", "3"],
            ["task-1-by-4", "task-2-by-4", "task-3-by-4"],
            "may belong together (1 with task-1-by-4, 2 with",
        ),
        (["1", "2"], ["cat", "dog"], "images are numbered from 1 to 2, and may follow the order"),
        (["cat", "dog", "cow"], ["0", "1"], ""),
        (["cat", "dog", "cow"], ["5", "6", "7"], ""),
        (["cat 1", "dog 1"], ["1", "7"], ""),
    ],
)
def test_a_likely_pairing_is_named_with_three_examples(images, masks, said):
    found = likely_cure(images, masks)
    assert said in found[0] if said else not found


def test_a_likely_pairing_is_never_taken(tmp_path):
    root = save_pairs(tmp_path / "own", "images/img_{:03}.jpg", "masks/mask_{:03}.png")
    said = refused(root)
    assert "where 0 pairs were found" in said and "(img_000 with mask_000, img_001 with" in said


# ---- a folder of masks for each class ----


def save_class(root: Path, name: str, squares: dict, top: int = 255, ending: str = "") -> None:
    """Masks of one class: by picture, the slices where it is."""
    (root / "masks" / name).mkdir(parents=True, exist_ok=True)
    for i, where in squares.items():
        mask = np.zeros(SIZE, np.uint8)
        mask[where] = top
        Image.fromarray(mask).save(root / "masks" / name / f"p{i}{ending}.png")


@pytest.fixture
def classes(tmp_path) -> Path:
    """Cats and dogs, who overlap in 2×3 pixels of two pictures; the last has no dog."""
    root = tmp_path / "own"
    (root / "images").mkdir(parents=True)
    for i in range(6):
        picture(i).save(root / "images" / f"p{i}.jpg")
    cat, dog, far = np.s_[2:8, 2:8], np.s_[6:12, 5:11], np.s_[12:14, 18:22]
    save_class(root, "cat", dict.fromkeys(range(6), cat))
    save_class(root, "dog", {0: dog, 1: dog, 2: far, 3: far, 4: far}, top=1, ending="_mask")
    return root


def test_each_folder_of_masks_is_a_class(classes):
    data = read(classes)
    assert data.table.names == ["background", "cat", "dog"]
    expected = np.zeros(SIZE, np.uint8)
    expected[2:8, 2:8] = 1
    first = expected.copy()
    first[6:12, 5:11] = 2
    far = expected.copy()
    far[12:14, 18:22] = 2
    for row, ids in ((0, first), (1, first), (3, far), (5, expected)):
        assert np.array_equal(data.source.read_values(data.pairs[row].mask), ids)
    notes = "\n".join(data.notes)
    assert "each folder of masks is a class: cat (6 masks), dog (5 masks); a picture" in notes
    assert "cat and dog overlap in 12 pixels of 2 pictures: they count as dog, the later" in notes
    assert data.counts("train").sum() > 0


def test_a_changed_mask_of_any_class_is_read_anew(classes):
    before = read(classes).pixels.copy()
    save_class(classes, "dog", {4: np.s_[0:1, 0:1]}, ending="_mask")
    after = read(classes).pixels
    assert (before[4][:3] - after[4][:3]).tolist() == [-7, 0, 7]


def test_a_picture_in_no_class_and_a_mask_without_picture_are_named(classes):
    picture(9).save(classes / "images" / "p9.jpg")
    save_class(classes, "cow", {8: np.s_[0:2, 0:2]})
    said = refused(classes)
    assert "p9.jpg has no mask" in said and "cow/p8.png has no image" in said


@pytest.mark.parametrize(
    "spoil, said",
    [
        (np.array([0, 1, 2], np.uint8), "holds 3 values (0 (128 pixels), 1 (128 pixels), 2 (128"),
        (np.zeros((4, 4), np.uint8), "p0_mask.png has another size than"),
    ],
)
def test_a_mask_of_one_class_that_is_no_such_mask_is_named(classes, spoil, said):
    mask = np.resize(spoil, SIZE) if spoil.ndim == 1 else spoil
    Image.fromarray(mask).save(classes / "masks" / "dog" / "p0_mask.png")
    assert said in refused(classes)
    (classes / "masks" / "cat" / "p1.png").write_bytes(b"torn")
    assert "p1.png can't be read as a picture" in refused(classes)


def test_a_table_gives_such_classes_other_ids(classes):
    table = "id,name,red,green,blue\n0,dog,1,2,3\n1,ground,4,5,6\n2,cat,7,8,9\n"
    (classes / "classes.csv").write_text(table)
    data = read(classes)
    assert data.table.names == ["dog", "ground", "cat"]
    assert data.pixels[5][:3].tolist() == [0, 24 * 16 - 36, 36]
    (classes / "classes.csv").write_text(table.replace("cat", "cow"))
    assert "has the names dog, ground, cow; expected those of the folders" in refused(classes)


def test_a_folder_called_background_is_no_class_of_its_own(classes):
    save_class(classes, "Background", {0: np.s_[0:8, :]})
    data = read(classes)
    assert data.table.names == ["background", "cat", "dog"] and data.pixels[0][1] > 0
    assert any("masks in Background are not needed" in note for note in data.notes)


def test_classes_under_other_names_are_read_and_said_so(classes):
    (classes / "images").rename(classes / "imgs")
    (classes / "masks").rename(classes / "Labels")
    data = read(classes)
    assert data.table.names == ["background", "cat", "dog"]
    assert "the masks of the pictures in imgs are taken from Labels" in data.notes


def test_a_class_may_be_called_train(classes):
    (classes / "masks" / "dog").rename(classes / "masks" / "train")
    assert read(classes).table.names == ["background", "cat", "train"]


def test_classes_in_splits(classes):
    for split, numbers in (("train", (0, 1, 2)), ("val", (3, 4)), ("test", (5,))):
        for name, path in (
            ("images", "{}.jpg"),
            ("masks/cat", "{}.png"),
            ("masks/dog", "{}_mask.png"),
        ):
            for i in numbers:
                old = classes / name / path.format(f"p{i}")
                new = classes / split / name / old.name
                new.parent.mkdir(parents=True, exist_ok=True)
                if old.exists():
                    old.rename(new)
    for name in ("images", "masks"):
        shutil.rmtree(classes / name)
    data = read(classes)
    assert [len(rows) for rows in data.splits.values()] == [3, 2, 1]
    assert data.table.names == ["background", "cat", "dog"]


# ---- masks in the transparency alone ----


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("has_table", [False, True])
def test_masks_that_hold_nothing_but_transparency_are_read_from_it(tmp_path, mode, has_table):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.png")
    for path in (root / "masks").iterdir():
        mask = Image.new(mode, SIZE[::-1], "white")
        mask.putalpha(Image.open(path).convert("L"))
        mask.save(path)
    if has_table:
        rows = "id,name,red,green,blue\n0,ground,0,0,0\n1,thing,255,255,255\n"
        (root / "classes.csv").write_text(rows)
    data = read(root)
    assert len(data.table.names) == 2
    check_ids(data)
    assert any("differ in their transparency alone: that is read" in note for note in data.notes)


def test_where_colours_say_something_transparency_is_not_read(tmp_path):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.png")
    for path in (root / "masks").iterdir():
        mask = Image.open(path).convert("RGB")
        half = Image.new("L", SIZE[::-1], 128)
        half.paste(255, (0, 0, 9, 9))
        mask.putalpha(half)
        mask.save(path)
    data = read(root)
    check_ids(data)
    assert all(note.startswith("background is ") for note in data.notes)
    for path in (root / "masks").iterdir():  # one colour, and one transparency
        Image.new("RGBA", SIZE[::-1], (255, 0, 0, 255)).save(path)
    assert "nothing to tell apart" in refused(root)


# ---- arrays ----


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32, bool])
def test_arrays_are_masks_as_pictures_are(tmp_path, kind):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.npy")
    for path in (root / "masks").iterdir():
        np.save(path, np.load(path).astype(kind)[..., None])
    data = read(root)
    check_ids(data)
    assert data.table.names == ["background", "object"]


def test_arrays_of_more_classes_get_a_table_and_255_stays_ignore(tmp_path):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.npy")
    for path in (root / "masks").iterdir():
        np.save(path, np.load(path).astype(np.int32) * 2 + np.eye(*SIZE, dtype=np.int32))
    said = refused(root)
    (root / "classes.csv").write_text(said.split("your own:\n")[1])
    data = read(root)
    assert len(data.table.names) == 4 and data.pixels[:, IGNORE].sum() == 0


@pytest.mark.parametrize(
    "content, said",
    [
        (np.full(SIZE, 0.5), "holds 0.5; expected whole numbers"),
        (np.zeros((*SIZE, 3), np.uint8), "can't be read as a mask (its shape is (16, 24, 3), not"),
        (np.array([{}], object), "can't be read as a mask"),
        (b"\x93NUMPY torn", "can't be read as a mask"),
        (None, "can't be read as a mask"),
    ],
)
def test_an_array_that_is_no_mask_is_named(tmp_path, content, said):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.npy")
    path = root / "masks" / "3.npy"
    if content is None:  # shorter than its head says
        path.write_bytes(path.read_bytes()[:-20])
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    found = refused(root)
    assert said in found and "3.npy" in found


class Trap:
    """What makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_an_array_runs_no_code(tmp_path):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.npy")
    np.save(root / "masks" / "0.npy", np.array([[Trap(tmp_path / "ran")]]), allow_pickle=True)
    assert "0.npy can't be read as a mask" in refused(root)
    assert not (tmp_path / "ran").exists()
    np.load(root / "masks" / "0.npy", allow_pickle=True)
    assert (tmp_path / "ran").exists()


def test_of_an_array_and_a_picture_of_it_the_array_is_read(tmp_path):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.npy")
    for i in range(6):
        picture(i).save(root / "masks" / f"{i}.png")
    data = read(root)
    check_ids(data)
    assert any(
        "6 pictures in masks are left out: arrays of the same names" in n for n in data.notes
    )


# ---- very few ----


@pytest.mark.parametrize("count", [2, 3])
def test_three_pictures_are_trained_on_and_it_is_said_what_their_score_is_worth(
    run_train, tmp_path, count, capsys
):
    save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.png", range(count))
    folder = run_train(dataset="own", run_dir="run")
    assert json.loads((folder / "run" / "report.json").read_text())
    assert (
        f"{count} pairs are very few: the scores come from 1 picture in" in capsys.readouterr().out
    )


def test_four_pictures_have_no_such_note(tmp_path):
    root = save_pairs(tmp_path / "own", "images/{}.png", "masks/{}.png", range(4))
    assert read(root).notes == ["background is 0, the object 255"]
