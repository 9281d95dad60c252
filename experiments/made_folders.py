"""Folders of pictures as people have them, made up by chance, and what is true of each: the class
of every pixel, and what has to be refused."""

import io
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

VOID = -1  # a pixel that nobody labelled
ENDINGS = "png jpg jpeg bmp tif webp gif PNG JPG Jpeg TIFF".split()
LOSSLESS = {".png", ".bmp", ".tif", ".tiff", ".webp"}
NAMES = ["p{}", "IMG_{:04}", "Bild {}", "größe_{}", "a.b.{}", "日本 {}", "P{}x", "x ({})", "{}"]
FORMATS = {"jpg": "jpeg", "tif": "tiff"}
# How EXIF numbers name what viewers do, and what undoes it.
TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,) * 2,
    3: (Image.Transpose.ROTATE_180,) * 2,
    4: (Image.Transpose.FLIP_TOP_BOTTOM,) * 2,
    5: (Image.Transpose.TRANSPOSE,) * 2,
    6: (Image.Transpose.ROTATE_270, Image.Transpose.ROTATE_90),
    7: (Image.Transpose.TRANSVERSE,) * 2,
    8: (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_270),
}


@dataclass
class Made:
    """A folder, and the truth about it."""

    root: Path
    about: list[str] = field(default_factory=list)
    images: dict[str, np.ndarray] = field(default_factory=dict)  # by path in root, as viewers show
    classes: dict[str, np.ndarray] = field(default_factory=dict)  # of each pixel, or VOID
    masks: dict[str, Path] = field(default_factory=dict)
    ids: dict[int, int] | None = None  # of each class, where a table says so
    must: list[str] = field(default_factory=list)  # what has to be refused
    may: list[str] = field(default_factory=list)  # what may be refused, or is read right
    said: list[str] = field(default_factory=list)  # words that have to be there if it is accepted
    is_spared: bool = False  # of what spoils usual folders of pictures

    def note(self, what: str, kind: list[str] | None = None) -> None:
        self.about.append(what)
        if kind is not None:
            kind.append(what)


# ---- what is drawn ----


def draw(rng: np.random.Generator, size: tuple[int, int], classes: list[int]) -> np.ndarray:
    """A picture's classes: areas of two pixels or more on a background."""
    height, width = size
    drawn = np.zeros(size, int)
    for label in rng.permutation(classes):
        tall = rng.integers(2, max(3, height // 2) + 1)
        wide = rng.integers(2, max(3, width // 2) + 1)
        y, x = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
        if rng.random() < 0.5:
            drawn[y : y + tall, x : x + wide] = label
        else:
            rows, columns = np.mgrid[:tall, :wide] + 0.5
            inside = ((rows / tall - 0.5) ** 2 + (columns / wide - 0.5) ** 2) < 0.25
            drawn[y : y + tall, x : x + wide][inside] = label
    return drawn


def picture_of(rng: np.random.Generator, drawn: np.ndarray) -> np.ndarray:
    looks = np.array([(90, 90, 90), (200, 40, 40), (40, 40, 200), (40, 200, 40), (200, 200, 40)])
    noise = rng.integers(-30, 31, (*drawn.shape, 3))
    return (looks[drawn.clip(0) % 5] + noise).astype(np.uint8)


# ---- how masks are saved ----


def as_jpeg(picture: Image.Image, quality: int) -> Image.Image:
    memory = io.BytesIO()
    picture.save(memory, "jpeg", quality=quality)
    return Image.open(memory).copy()


class Writer:
    """One way to save masks: what stands in the file for each class."""

    def __init__(self, rng: np.random.Generator, chance: random.Random, count: int, void: bool):
        self.rng, self.chance, self.count = rng, chance, count
        kinds = "ids ids greys gaps deep palette palette shuffled gif mixed rgb rgb rgba".split()
        kinds += ["jpeg", "once", "smooth", "array"] + ["bit"] * (count == 2)
        self.kind = chance.choice(kinds)
        self.void = void and self.kind in ("ids", "palette")
        self.base = chance.choice(("numbers", "colors")) if self.is_spoilt() else self.kind
        steps = np.linspace(0, 255, count).round().astype(int)
        if self.kind in ("greys", "mixed") or self.base == "numbers":
            numbers = steps
        elif self.kind == "gaps":
            numbers = np.sort(rng.choice(255, count, replace=False))
        elif self.kind == "deep":
            numbers = np.sort(rng.choice(np.arange(256, 60000), count, replace=False))
        else:
            numbers = np.arange(count)
        self.numbers = numbers
        self.colors = self.apart(count)

    def apart(self, count: int) -> np.ndarray:
        levels = np.array([0, 64, 128, 192, 255])
        chosen = self.rng.choice(125, count, replace=False)
        return levels[np.stack([chosen // 25, chosen // 5 % 5, chosen % 5], 1)]

    def is_spoilt(self) -> bool:
        return self.kind in ("jpeg", "once", "smooth")

    def is_colored(self) -> bool:
        return self.kind in ("rgb", "rgba") or self.base == "colors"

    def picture(self, drawn: np.ndarray) -> Image.Image:
        numbers = self.numbers[drawn.clip(0)]
        if self.void:
            numbers = np.where(drawn == VOID, 255, numbers)
        if self.is_colored():
            picture = Image.fromarray(self.colors[drawn.clip(0)].astype(np.uint8))
            if self.kind == "rgba":
                picture.putalpha(255)
            return picture
        if self.kind == "deep":
            return Image.fromarray(numbers.astype(np.uint16))
        if self.kind == "bit":
            return Image.fromarray(drawn > 0)
        picture = Image.fromarray(numbers.astype(np.uint8))
        if self.kind == "mixed":
            return picture.convert(self.chance.choice(("L", "RGB")))
        if self.kind in ("palette", "shuffled", "gif"):
            order = np.arange(self.count)
            if self.kind == "shuffled":
                order = self.rng.permutation(self.count)
                picture = Image.fromarray(order[drawn.clip(0)].astype(np.uint8))
            palette = np.zeros((256, 3), int)
            palette[order] = self.colors
            palette[255] = 224, 224, 192
            picture.putpalette(palette.astype(np.uint8).tobytes())
        return picture

    def save(self, path: Path, drawn: np.ndarray) -> Path:
        """Write a mask; returns its path with an ending that fits."""
        if self.kind == "array":
            path = path.with_name(f"{path.name}.npy")
            path.parent.mkdir(parents=True, exist_ok=True)
            kind = self.chance.choice((np.uint8, np.int64, np.float32))
            np.save(path, self.numbers[drawn.clip(0)].astype(kind))
            return path
        picture = self.picture(drawn)
        ending = self.chance.choice((".png", ".png", ".png", ".PNG"))
        if self.kind == "gif":  # which numbers colours anew
            ending = ".gif"
        elif self.kind == "jpeg":
            ending = self.chance.choice((".jpg", ".JPEG"))
        elif self.kind in ("rgb", "greys", "ids", "deep") and self.chance.random() < 0.2:
            ending = ".tif"
        elif self.kind in ("rgb", "ids") and self.chance.random() < 0.1:
            ending = ".bmp" if self.kind == "ids" else ".webp"
        if self.kind == "once":
            picture = as_jpeg(picture, self.chance.choice((75, 90, 95)))
        if self.kind == "smooth":
            half = [max(1, side // 2) for side in picture.size]
            resized = picture.resize(half, Image.Resampling.BILINEAR)
            picture = resized.resize(picture.size, Image.Resampling.BILINEAR)
        path = path.with_name(path.name + ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        options = {"lossless": True} if ending == ".webp" else {}
        if ending.lower() in (".jpg", ".jpeg"):
            options = {"quality": self.chance.choice((75, 90, 95))}
        picture.save(path, **options)
        return path


# ---- classes.csv ----

FORMS = "plain plain semicolon tab bom crlf blanks header ending".split()
BROKEN = (
    "name color unnamed float gap twice missing extra latin utf16 folder link junk head".split()
)


def table_of(writer: Writer, made: Made, chance: random.Random) -> list[list]:
    """The rows of a right table; ids are in any order where the file says which is which."""
    count = writer.count
    by_value = not writer.is_colored() and (
        writer.kind in ("gaps", "deep")
        or (chance.random() < 0.3 and writer.kind not in ("shuffled", "gif", "mixed"))
    )
    order = list(range(count))
    if by_value or writer.is_colored() or writer.kind in ("greys", "mixed"):
        chance.shuffle(order)
    colors = writer.colors
    if not by_value and (writer.kind in ("greys", "mixed") or writer.base == "numbers"):
        colors = np.stack([writer.numbers] * 3, 1)
    made.ids = {label: order[label] for label in range(count)}
    rows = [["id", "name", "red", "green", "blue"] + ["value"] * by_value]
    for label in range(count):
        value = [int(writer.numbers[label])] * by_value
        rows.append([order[label], f"klasse {label}", *map(int, colors[label]), *value])
    made.note("with a column value" if by_value else "with a table")
    return rows


def spoil_table(rows: list[list], how: str, writer: Writer) -> None:
    last = rows[-1]
    if how == "name":
        last[1] = rows[1][1]
    elif how == "color":
        last[2:5] = rows[1][2:5]
    elif how == "unnamed":
        last[1] = " "
    elif how == "float":
        last[0] = f"{last[0]}.0"
    elif how == "gap":
        rows[1:] = [[row[0] + 1, *row[1:]] for row in rows[1:]]
    elif how == "twice":
        last[0] = rows[1][0]
    elif how == "missing":  # 255 would be taken for what nobody labelled
        numbers = writer.numbers.tolist()
        label = next(i for i in range(writer.count) if numbers[i] != 255)
        gone = rows.pop(1 + label)
        rows[1:] = [[row[0] - (row[0] > gone[0]), *row[1:]] for row in rows[1:]]
    elif how == "extra":
        more = [77777] * (len(last) - 5)
        rows.append([len(rows) - 1, "nothing", 1, 2, 3, *more])
    elif how == "head":
        del rows[0]


def write_table(made: Made, writer: Writer, chance: random.Random) -> None:
    path, how = made.root / "classes.csv", ""
    rows = table_of(writer, made, chance)
    if chance.random() < 0.3:
        how = chance.choice(BROKEN)
        made.note(f"table: {how}", made.must)
        spoil_table(rows, how, writer)
    form = chance.choice(FORMS)
    made.note(f"as {form}")
    if form == "header" and how != "head":
        rows[0] = [f" {name.upper()} " for name in rows[0]]
    sign = {"semicolon": ";", "tab": "\t"}.get(form, ",")
    end = "\r\n" if form == "crlf" else "\n"
    lines = [sign.join(map(str, row)) for row in rows]
    if form == "blanks":
        lines = ["", *lines, "", sign * 4, ""]
    if form == "ending":
        lines = [line + sign for line in lines]
    text = end.join(lines) + end
    if how == "folder":
        path.mkdir()
    elif how == "link":
        path.symlink_to("nowhere.csv")
    elif how == "junk":
        path.write_bytes(bytes(chance.randrange(256) for _ in range(200)))
    elif how == "latin":
        path.write_bytes(text.replace("klasse", "größe").encode("latin-1"))
    elif how == "utf16":
        path.write_bytes(text.encode("utf-16"))
    else:
        path.write_text(text, encoding="utf-8-sig" if form == "bom" else "utf-8", newline="")


# ---- a folder ----

NAMED = {
    "imgs": ("imgs", "Labels"),
    "photos": ("Photos/{}", "gt/{}"),
    "x_train": ("x_{}", "y_{}"),
    "annot": ("{}", "{}annot"),
}


def save_image(path: Path, pixels: np.ndarray, turn: int) -> None:
    picture = Image.fromarray(pixels)
    options = {}
    if turn in TURNS:
        picture = picture.transpose(TURNS[turn][1])
        exif = Image.Exif()
        exif[0x0112] = turn
        options["exif"] = exif
    if path.suffix.lower() in (".jpg", ".jpeg"):
        options |= {"quality": 95, "subsampling": 0}
    if path.suffix.lower() == ".webp":
        options["lossless"] = True
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, **options)


def places(root: Path, layout: str, split: str) -> tuple[Path, Path]:
    if layout == "beside":
        return root, root
    if layout == "flat":
        return root / "images", root / "masks"
    if layout in NAMED:
        images, masks = NAMED[layout]
        return root / images.format(split), root / masks.format(split)
    if layout == "inner":
        return root / "images" / split, root / "masks" / split
    return root / split / "images", root / split / "masks"


def some_sizes(chance: random.Random, count: int) -> list[tuple[int, int]]:
    sizes = [(chance.randint(8, 64), chance.randint(8, 64)) for _ in range(count)]
    if chance.random() < 0.4:
        sizes = sizes[:1] * count
    if chance.random() < 0.15:
        sizes = [(height, height) for height, _ in sizes]
    return sizes


def make_pairs(made: Made, writer_of: Callable, chance: random.Random, rng) -> Writer:
    count = (
        chance.choice((2, 2, 3, 4, 5, 6, 8, 12))
        if chance.random() > 0.04
        else chance.choice((0, 1))
    )
    labels = list(range(1, chance.choice((2, 2, 3, 3, 4, 5) * 4 + (1,))))
    sizes = some_sizes(chance, count)
    drawn = [draw(rng, size, labels) for size in sizes]
    present = sorted({int(label) for one in drawn for label in np.unique(one)})
    drawn = [np.searchsorted(present, one) for one in drawn]
    if len(present) > 2 and chance.random() < 0.2:  # all but some lack a class
        drawn[1:] = [np.where(one == len(present) - 1, 0, one) for one in drawn[1:]]
        present = sorted({int(label) for one in drawn for label in np.unique(one)})
        drawn = [np.searchsorted(sorted({*range(len(present))}), one) for one in drawn]
    writer = writer_of(len(present), chance.random() < 0.3)
    made.note(f"{count} pairs of {len(present)} classes as {writer.kind}")
    if len(present) < 2 and not writer.void:
        made.note("no two classes", made.must)
    if count < 2:
        made.note("no two pairs", made.must)
    layout = chance.choice(("flat",) * 4 + ("inner", "outer") * 2 + ("beside", *NAMED))
    tail = "_mask" if layout == "beside" else chance.choice(("", "", "", "_mask"))
    if layout == "beside" or layout in NAMED:
        made.said.append("side by side in" if layout == "beside" else "are taken from")
        made.is_spared = True
    if writer.kind == "array":
        made.is_spared = True
    turning = chance.choice((0,) * 7 + ("shown", "shown", "lies"))
    made.note(f"{layout}{tail} {turning or ''}")
    name = chance.choice(NAMES)
    for i, one in enumerate(drawn):
        if writer.void:
            one = one.copy()
            one[: max(1, len(one) // 5)] = VOID
        split = ("train", "train", "val", "train", "test")[i % 5]
        images, masks = places(made.root, layout, split)
        image = images / f"{name.format(i)}.{chance.choice(ENDINGS)}"
        can_turn = image.suffix.lower() in (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")
        turn = chance.choice((0, 1, *TURNS)) if turning and can_turn else 0
        pixels = picture_of(rng, one)
        save_image(image, pixels, turn)
        on_disk = one
        if turn in TURNS:
            made.said.append("turned by their EXIF note")
            if turning == "lies":
                back = Image.fromarray(one.astype(np.int32)).transpose(TURNS[turn][1])
                on_disk = np.array(back)
                if on_disk.shape != one.shape:
                    made.note(f"{image.name} lies on its side", made.must)
        key = image.relative_to(made.root).as_posix()
        made.images[key], made.classes[key] = pixels, one
        if turning == "lies":  # what sizes don't show is said, and compared with nothing
            made.classes[key] = None
        made.masks[key] = writer.save(masks / f"{name.format(i)}{tail}", on_disk)
    every = [one for one in made.classes.values() if one is not None]
    if writer.void and len(
        {int(label) for one in every for label in np.unique(one)} - {VOID}
    ) < len(present):
        made.note("a class without a pixel", made.may)
    if count:
        for name in ("images", "masks"):
            if layout == "flat":
                (made.root / name).mkdir(exist_ok=True)
    return writer


# ---- what else lies about, or is amiss ----


def spoil(made: Made, what: str, chance: random.Random) -> None:
    """One thing more, that has to be refused if it is not harmless."""
    if not made.masks:
        raise ValueError("nothing is left to spoil")
    key = chance.choice(list(made.masks))
    image, mask = made.root / key, made.masks[key]
    path = chance.choice((image, mask))
    if what == "junk":
        for name in ("Thumbs.db", ".DS_Store", "desktop.ini", ".hidden.png"):
            (path.parent / name).write_bytes(b"junk")
        (made.root / "notes.txt").write_text("of mine")
        made.about.append(what)
        return
    if what == "text":
        path.with_name("readme.txt").write_text("hello")
        made.about.append(what)
        return
    if what == "truncated":
        content = path.read_bytes()
        path.write_bytes(content[: chance.randrange(1, len(content))])
        made.note(what, made.may)  # all pixels may be there
        return
    if what == "sideways" and any(one is None for one in made.classes.values()):
        return  # what lies on its side already may be put right so
    made.note(what, made.must)
    if what == "orphan":
        path.unlink()
        is_split = path == mask and path.parent != made.root / "masks"
        if is_split and not any(path.parent.iterdir()):  # one without any masks is left out
            made.must.remove(what)
            made.said.append("is left out: there are no masks in")
            del made.images[key], made.masks[key]
    elif what == "twin":
        ending = ".bmp" if path.suffix.lower() != ".bmp" else ".png"
        path.with_suffix(ending).write_bytes(path.read_bytes())
    elif what == "dead link":
        path.unlink()
        path.symlink_to("nowhere.png")
    elif what == "pipe":
        path.unlink()
        os.mkfifo(path)
    elif what == "folder":
        path.with_name("more").mkdir()
    elif what == "empty":
        path.write_bytes(b"")
    elif what == "size":
        with Image.open(mask) as picture:
            smaller = picture.resize((picture.width + 1, picture.height), Image.Resampling.NEAREST)
        smaller.save(mask)
    elif what == "sizes":
        for one in made.masks.values():
            with Image.open(one) as picture:
                larger = picture.resize([2 * side for side in picture.size], 0)
            larger.save(one)
    elif what == "sideways":
        for one in made.masks.values():
            with Image.open(one) as picture:
                turned = picture.transpose(Image.Transpose.ROTATE_90)
            turned.save(one)
        if all(height == width for height, width, _ in map(np.shape, made.images.values())):
            made.must.remove(what)  # nobody could know
            made.classes = dict.fromkeys(made.classes)
    elif what in ("ending", "case", "zeros"):
        for one in made.masks.values():
            stem = {
                "ending": f"{one.stem}_seg",
                "case": one.stem.swapcase(),
                "zeros": f"00{one.stem}",
            }[what]
            one.rename(one.with_name(f"{stem}{one.suffix}"))
        if what == "case" and all(one.stem == one.stem.swapcase() for one in made.masks.values()):
            made.must.remove(what)
    elif what == "exchanged":
        for split in ("", "train", "val", "test"):
            for images, masks in (places(made.root, how, split) for how in ("inner", "outer")):
                exchange(images, masks)
        exchange(made.root / "images", made.root / "masks")


def exchange(images: Path, masks: Path) -> None:
    """Pictures lie in masks and masks in images; folders of splits are left."""
    if not (images.is_dir() and masks.is_dir()):
        return
    for path in [path for path in images.iterdir() if path.is_file()]:
        path.rename(path.with_name(f"was image {path.name}"))
    for path in [path for path in masks.iterdir() if path.is_file()]:
        path.rename(images / path.name)
    for path in images.glob("was image *"):
        path.rename(masks / path.name.removeprefix("was image "))


SPOILS = (
    "junk junk orphan twin pipe folder text empty truncated size sizes sideways ending case zeros"
)
SPOILS = [*SPOILS.split(), "dead link", "exchanged"]


def make_folder(root: Path, seed: str) -> Made:
    """The folder of this seed."""
    chance = random.Random(seed)
    rng = np.random.default_rng(chance.randrange(2**32))
    made = Made(root)
    root.mkdir()
    writer = make_pairs(made, lambda count, void: Writer(rng, chance, count, void), chance, rng)
    if made.masks and writer.count > 1 and chance.random() < 0.45:
        write_table(made, writer, chance)
    if writer.is_spoilt() or writer.kind in ("shuffled", "gif"):
        made.may.append(writer.kind)
    times = chance.choice((0, 0, 0, 0, 0, 1, 1, 2)) if made.masks else 0
    if made.is_spared:
        times = 0
    # A pipe comes last: whatever reads it would wait for ever.
    for what in sorted(chance.sample(SPOILS, times), key="pipe".__eq__):
        try:
            spoil(made, what, chance)
        except (OSError, ValueError):  # the second finds no more what the first has spoilt
            made.note(f"{what} in part", made.may)
    return made
