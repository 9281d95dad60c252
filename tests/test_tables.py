"""classes.csv: as spreadsheets save it, with a column value, and refused in a sentence."""

import os

from toolbox.errors import InputError
from toolbox.masks import IGNORE
from toolbox.tables import read_class_table
from toolbox.values import COLOR, color_key

import numpy as np
import pytest
from conftest import draw_squares
from PIL import Image

from dataset import prepare

PLAIN = "id,name,red,green,blue\n0,ground,0,0,0\n1,crop,0,255,0\n"


def table_of(tmp_path, text: str | bytes):
    path = tmp_path / "classes.csv"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return read_class_table(path)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN.replace(",", ";"),
        PLAIN.replace(",", "\t"),
        PLAIN.encode("utf-8-sig"),
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("id,name,red", " ID , Name,RED "),
        "\n\n" + PLAIN.replace("\n1", "\n,,,,\n\n1"),
        PLAIN.replace("\n", ";;\n").replace(",", ";"),
        PLAIN.replace("ground", '"ground"'),
        PLAIN.replace("0,ground", " 0 ,ground"),
    ],
)
def test_a_table_is_read_as_spreadsheets_save_it(tmp_path, text):
    assert table_of(tmp_path, text) == table_of(tmp_path, PLAIN)


def test_without_the_column_value_ids_stand_in_the_masks_and_with_it_numbers_do(tmp_path):
    plain = table_of(tmp_path, PLAIN)
    colors = {COLOR: 0, color_key((0, 255, 0)): 1}
    assert plain.meaning == {IGNORE: IGNORE, 0: 0, 1: 1, **colors}
    text = "id,name,red,green,blue,value\n0,ground,0,0,0,300\n1,crop,0,255,0,255\n"
    assert table_of(tmp_path, text).meaning == {300: 0, 255: 1, **colors}
    ignored = table_of(tmp_path, text + "255,void,0,0,0,7\n")
    assert ignored.meaning == {300: 0, 255: 1, 7: IGNORE, **colors}
    only_color = table_of(tmp_path, text.replace(",300", ","))
    assert only_color.meaning == {IGNORE: IGNORE, 255: 1, **colors} | {255: 1}


def test_masks_are_read_by_the_column_value(tmp_path):
    folder = draw_squares(tmp_path / "own", 3)
    numbers = np.resize(np.array([300, 600, 900, 255], np.uint16), (16, 16))
    for path in (folder / "masks").iterdir():
        Image.fromarray(numbers).save(path)
    (folder / "classes.csv").write_text(
        "id,name,red,green,blue,value\n1,a,0,0,0,300\n0,b,9,9,9,600\n2,c,99,9,9,900\n"
    )
    ids = prepare(str(folder), "", (16, 16)).read(0)[1]
    assert np.array_equal(ids, np.resize([1, 0, 2, IGNORE], (16, 16)))


@pytest.mark.parametrize(
    "text, said",
    [
        (PLAIN + "2,crop,9,9,9\n", "gives the name crop to the ids 1 and 2"),
        (PLAIN + "2, ground ,9,9,9\n", "gives the name ground to the ids 0 and 2"),
        (PLAIN + "2,weed,0,255,0\n", r"gives the color \(0, 255, 0\) to the ids 1 and 2"),
        (PLAIN + "255,void,0,255,0\n", r"gives the color \(0, 255, 0\) to the ids 1 and 255"),
        (PLAIN + "2, ,9,9,9\n", "gives no name to the id 2"),
        (PLAIN + "2.0,weed,9,9,9\n", "has the id '2.0'; expected a whole number"),
        (PLAIN + "-1,weed,9,9,9\n", "has the id '-1'"),
        (PLAIN + "3,weed,9,9,9\n", "lacks the id 2"),
        (PLAIN + "1,weed,9,9,9\n", "has the id 1 in 2 rows"),
        (PLAIN + "2,weed,9,9\n", "has the blue '' in the row of id 2"),
        (PLAIN + "2,we,ed,9,9,9\n", "has more cells than columns in the row 2,we,ed,9,9,9"),
        (PLAIN.partition("\n")[2], "has no column id, name, red, green, blue in its first line"),
        (PLAIN.replace("name", "blue"), "has no column name"),
        (PLAIN.replace("blue", "blue,id"), "has the column id twice"),
        ("", "has no column"),
        (PLAIN.partition("\n")[0], r"has the ids \[\]; expected 0, 1, 2"),
        (PLAIN.encode("utf-16"), "is not in UTF-8.*save it as UTF-8"),
        (PLAIN.encode("utf-16-le"), "is not in UTF-8"),
        (PLAIN.replace("crop", "grün").encode("latin-1"), "is not in UTF-8"),
        (PLAIN.replace("crop", '"' + "x" * 200000 + '"'), "can't be understood"),
        (
            "id,name,red,green,blue,value\n0,a,0,0,0,4\n1,b,1,1,1,4\n",
            "gives the value 4 to the ids 0",
        ),
        (
            "id,name,red,green,blue,value\n0,a,0,0,0,4\n1,b,1,1,1,-4\n",
            "has the value '-4' in the row",
        ),
    ],
)
def test_a_table_that_is_wrong_is_refused_with_what_is_wrong(tmp_path, text, said):
    with pytest.raises(InputError, match=f"classes.csv {said}"):
        table_of(tmp_path, text)


def test_a_table_that_is_no_file_is_named(tmp_path):
    folder = draw_squares(tmp_path / "own", 3, table=False)
    (folder / "classes.csv").mkdir()
    with pytest.raises(InputError, match="classes.csv is no file"):
        prepare(str(folder), "", (16, 16))
    (folder / "classes.csv").rmdir()
    (folder / "classes.csv").symlink_to("nowhere")
    with pytest.raises(InputError, match="classes.csv is no file"):
        prepare(str(folder), "", (16, 16))
    (folder / "classes.csv").unlink()
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "classes.csv")
        with pytest.raises(InputError, match="classes.csv is no file"):
            prepare(str(folder), "", (16, 16))
        (folder / "classes.csv").unlink()
    (folder / "Classes.csv.txt").write_text(PLAIN)
    with pytest.raises(InputError, match="Classes.csv.txt is not read; call it .*classes.csv"):
        prepare(str(folder), "", (16, 16))
