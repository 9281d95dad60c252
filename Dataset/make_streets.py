"""Draw the Streets data set: procedural street scenes, each with a mask that is exact to the pixel.

A pinhole camera stands `eye` metres above a straight street. Every surface and object has a place
in metres (X right, Y up, Z forward), so sizes, occlusion and perspective agree as they do in
photographs. Light, weather, colours and textures vary so widely that the colour of one pixel says
little about its class: a network has to learn shape and place.

    python Dataset/make_streets.py     draws Dataset/streets, as train.py does where it is missing

Picture i depends on nothing but i, so with the same versions of NumPy and OpenCV everybody's
Streets are the same.
"""

import csv
import math
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from multiprocessing import Pool
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

PICTURES = 500
SIZE = (144, 232)  # height, width of a picture
# Back to front: where two classes share a pixel evenly, the one in front has it.
CLASSES = [
    ("sky", (70, 130, 180)),
    ("building", (110, 80, 90)),
    ("vegetation", (107, 142, 35)),
    ("road", (128, 64, 128)),
    ("pavement", (244, 160, 200)),
    ("pole", (255, 140, 0)),
    ("sign", (250, 220, 0)),
    ("car", (20, 30, 200)),
    ("person", (220, 20, 60)),
]
SKY, BUILDING, VEGETATION, ROAD, PAVEMENT, POLE, SIGN, CAR, PERSON = range(len(CLASSES))
FAR = 400.0  # metres; nothing is drawn beyond
DAYLIGHTS = [  # sky above, sky at the horizon, colour of the light
    ((0.25, 0.48, 0.85), (0.72, 0.84, 0.95), (1.02, 1.0, 0.96)),  # clear
    ((0.55, 0.60, 0.66), (0.78, 0.80, 0.82), (0.92, 0.95, 1.0)),  # overcast
    ((0.30, 0.32, 0.55), (0.98, 0.66, 0.42), (1.08, 0.88, 0.72)),  # evening
    ((0.14, 0.18, 0.34), (0.42, 0.38, 0.48), (0.8, 0.82, 0.96)),  # dusk
    ((0.80, 0.80, 0.78), (0.88, 0.87, 0.84), (1.0, 0.99, 0.96)),
]  # white haze


class Camera(NamedTuple):
    """Where the picture is taken from: lengths in pixels but for `eye`, which is metres above
    the ground."""

    height: int
    width: int
    focal: float
    horizon: float
    centre: float
    eye: float

    def project(self, points: np.ndarray) -> np.ndarray:
        """Pixels (N, 2) of points (N, 3) in metres."""
        scale = self.focal / np.maximum(points[:, 2], 0.3)
        return np.stack(
            [self.centre + points[:, 0] * scale, self.horizon + (self.eye - points[:, 1]) * scale],
            axis=1,
        )


class Canvas:
    """The picture, its mask and its depth, painted back to front: what is painted later stands
    before the rest."""

    def __init__(self, camera: Camera):
        self.camera = camera
        self.image = np.zeros((camera.height, camera.width, 3), np.float32)
        self.mask = np.zeros((camera.height, camera.width), np.uint8)
        self.depth = np.full((camera.height, camera.width), FAR, np.float32)

    def pixels(self, outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The x and y of all pixels inside a polygon (N, 2) given in pixels."""
        outline = np.clip(outline, -4000, 4000)
        x0, y0 = np.clip(
            np.floor(outline.min(0)), 0, (self.camera.width, self.camera.height)
        ).astype(int)
        x1, y1 = np.clip(
            np.ceil(outline.max(0)) + 1, 0, (self.camera.width, self.camera.height)
        ).astype(int)
        if x1 <= x0 or y1 <= y0:
            return np.empty(0, int), np.empty(0, int)
        inside = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillPoly(inside, [np.round((outline - (x0, y0)) * 16).astype(np.int32)], 1, shift=4)
        y, x = np.nonzero(inside)
        return x + x0, y + y0

    def paint(self, outline: np.ndarray, label: int, shade, depth) -> None:
        """Fill a polygon; shade is a colour or gives one for each pixel from (x, y), depth
        likewise."""
        x, y = self.pixels(outline)
        if len(x):
            self.image[y, x] = shade(x, y) if callable(shade) else shade
            self.mask[y, x] = label
            self.depth[y, x] = depth(x, y) if callable(depth) else depth

    def board(self, points, at: float, label: int, shade) -> None:
        """Paint a flat shape that faces the camera at distance `at`; points are (X, Y) in
        metres."""
        points = np.asarray(points, float)
        self.paint(
            self.camera.project(np.column_stack([points, np.full(len(points), at)])),
            label,
            shade,
            at,
        )

    def shadow(
        self, x: float, z: float, half_width: float, half_length: float, darkness: float
    ) -> None:
        """Darken the ground under something; a shadow changes the picture, never the mask."""
        turn = np.linspace(0, 2 * math.pi, 24)
        ring = np.column_stack(
            [x + half_width * np.cos(turn), np.zeros(24), z + half_length * np.sin(turn)]
        )
        px, py = self.pixels(self.camera.project(ring))
        self.image[py, px] *= 1 - darkness


def noise(
    rng: np.random.Generator, height: int, width: int, cells: float, octaves: int = 3
) -> np.ndarray:
    """Cloudy texture (H, W) in about -1..1; `cells` lumps across the width, finer ones on top."""
    total = np.zeros((height, width), np.float32)
    for octave in range(octaves):
        columns = max(2, int(cells * 2**octave))
        grid = rng.uniform(-1, 1, (max(2, columns * height // width), columns)).astype(np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) / 2**octave
    return total / 1.6


def ellipse(
    x: float, y: float, half_width: float, half_height: float, corners: int = 20
) -> np.ndarray:
    turn = np.arange(corners) * (2 * math.pi / corners)
    return np.column_stack([x + half_width * np.cos(turn), y + half_height * np.sin(turn)])


def box(x0: float, x1: float, y0: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def tint(rng: np.random.Generator, *choices: tuple) -> np.ndarray:
    """One of the colours, moved a little."""
    return np.clip(
        np.array(choices[rng.integers(len(choices))]) * rng.uniform(0.75, 1.2)
        + rng.normal(0, 0.03, 3),
        0.03,
        1,
    )


def paint_sky(canvas: Canvas, rng: np.random.Generator, above, below) -> None:
    height, width = canvas.mask.shape
    rise = np.clip(np.arange(height) / max(canvas.camera.horizon, 1), 0, 1)[
        :, None, None
    ] ** rng.uniform(0.6, 1.6)
    canvas.image[:] = np.array(above) * (1 - rise) + np.array(below) * rise
    clouds = np.clip(
        noise(rng, height, width, rng.uniform(2, 5), 4) + rng.uniform(-0.8, 0.5), 0, 1
    )[..., None]
    canvas.image += (np.array(below) * rng.uniform(0.75, 1.12) - canvas.image) * clouds * 0.9


def paint_skyline(canvas: Canvas, rng: np.random.Generator) -> None:
    """Far hills, trees and blocks where the street ends."""
    for label, low, high in ((BUILDING, 8, 28), (VEGETATION, 3, 12)):
        if rng.random() < 0.6:
            x = np.repeat(np.linspace(-160, 160, 21), 2)[
                1:-1
            ]  # towers have flat tops, hills a line of points
            tops = (
                np.repeat(rng.uniform(low, high, 20), 2)
                if label == BUILDING
                else rng.uniform(low, high, 40)
            )
            points = np.concatenate([np.column_stack([x, tops]), [(160, -1), (-160, -1)]])
            colour = (
                tint(rng, (0.25, 0.4, 0.18), (0.3, 0.42, 0.24))
                if label == VEGETATION
                else tint(rng, (0.6, 0.48, 0.4), (0.66, 0.56, 0.48))
            )
            canvas.board(points, rng.uniform(110, 170), label, colour)
    canvas.depth[canvas.mask == SKY] = FAR


class Street(NamedTuple):
    """The cross-section of the street in metres, left to right, and its lanes."""

    wall_left: float
    kerb_left: float
    kerb_right: float
    wall_right: float
    lanes: list
    crossing: float  # Z of the side street, or beyond FAR


def lay_street(rng: np.random.Generator) -> Street:
    lane = rng.uniform(2.8, 3.6)
    lanes_left, lanes_right = rng.integers(1, 3), 1
    own = rng.uniform(-0.5, 0.5)  # the camera is in the lane on the right, or nearly
    borders = [lane * (i - 0.5) - own for i in range(-lanes_left, lanes_right + 1)]
    verge = rng.uniform(0.2, 1.2, 2)
    kerbs = borders[0] - verge[0], borders[-1] + verge[1]
    walls = kerbs[0] - rng.uniform(3.5, 7), kerbs[1] + rng.uniform(3.5, 7)
    crossing = rng.uniform(9, 40) if rng.random() < 0.35 else 2 * FAR
    return Street(walls[0], kerbs[0], kerbs[1], walls[1], borders, crossing)


def paint_ground(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    """Road, pavements, verges and markings, from the place in metres of every pixel below the
    horizon."""
    camera = canvas.camera
    first = max(0, int(camera.horizon) + 1)
    rows, columns = np.mgrid[first : camera.height, 0 : camera.width]
    z = np.minimum(camera.focal * camera.eye / np.maximum(rows - camera.horizon, 0.05), FAR)
    x = (columns - camera.centre) * z / camera.focal
    grain = noise(rng, *z.shape, 40, 3)[..., None]
    patches = noise(rng, *z.shape, 4, 2)[..., None]

    label = np.full(z.shape, ROAD, np.uint8)
    on_pavement = ((x < street.kerb_left) | (x > street.kerb_right)) & (
        np.abs(z - street.crossing) > 4
    )
    label[on_pavement] = PAVEMENT
    label[((x < street.wall_left) | (x > street.wall_right)) & on_pavement] = VEGETATION
    green_strip = rng.random() < 0.15  # a verge of grass beside the kerb
    if green_strip:
        strip = rng.uniform(0.8, 1.5)
        label[
            on_pavement
            & (
                (np.abs(x - street.kerb_left + strip / 2 + 0.2) < strip / 2)
                | (np.abs(x - street.kerb_right - strip / 2 - 0.2) < strip / 2)
            )
        ] = VEGETATION

    period, phase, wide = rng.uniform(4, 9), rng.uniform(0, 9), rng.uniform(0.07, 0.13)
    painted = np.zeros(z.shape, bool)
    for i, border in enumerate(street.lanes):
        solid = i in (0, len(street.lanes) - 1) or rng.random() < 0.2
        painted |= (np.abs(x - border) < wide) & (solid | ((z + phase) % period < period * 0.5))
    painted &= np.abs(z - street.crossing) > 6
    if rng.random() < 0.5:  # zebra crossing
        at = street.crossing - 7.5 if street.crossing < FAR else rng.uniform(5, 25)
        painted |= (np.abs(z - at) < 1.5) & ((x + phase) % 1.1 < 0.55)
    painted &= (label == ROAD) & (rng.random() < 0.9)

    slab = rng.uniform(0.5, 1.2)
    joints = ((x % slab < 0.05 * slab) | (z % slab < 0.07 * slab))[..., None] * np.clip(
        1 - z / 25, 0, 1
    )[..., None]
    asphalt = tint(
        rng, (0.32, 0.32, 0.34), (0.38, 0.37, 0.36), (0.26, 0.26, 0.28), (0.34, 0.32, 0.3)
    )
    stone = tint(rng, (0.6, 0.57, 0.53), (0.55, 0.54, 0.54), (0.66, 0.58, 0.48), (0.6, 0.48, 0.43))
    grass = tint(rng, (0.27, 0.42, 0.15), (0.36, 0.48, 0.18), (0.32, 0.4, 0.16))
    paintwork = tint(rng, (0.85, 0.85, 0.83), (0.75, 0.75, 0.72), (0.8, 0.7, 0.35))
    colours = np.zeros((len(CLASSES), 3), np.float32)
    colours[[ROAD, PAVEMENT, VEGETATION]] = asphalt, stone, grass
    ground = np.where(painted[..., None], paintwork, colours[label]) * (
        1 + 0.08 * grain + rng.uniform(0.03, 0.15) * patches
    )
    ground *= 1 - 0.35 * joints * (label == PAVEMENT)[..., None]
    kerb = (
        np.minimum(np.abs(x - street.kerb_left), np.abs(x - street.kerb_right)) < 0.08
    ) & on_pavement
    ground[kerb & (label == PAVEMENT)] *= rng.uniform(1.1, 1.35)
    if rng.random() < 0.5:  # the shadow of one row of houses
        edge = rng.uniform(street.kerb_left, street.kerb_right) + noise(rng, *z.shape, 3, 2) * 0.5
        ground[(x < edge) if rng.random() < 0.5 else (x > edge)] *= rng.uniform(0.55, 0.8)
    canvas.image[first:], canvas.mask[first:], canvas.depth[first:] = ground, label, z


def facade(rng: np.random.Generator, wall_height: float):
    """The colours of a wall as a function of metres along it (u) and up (v)."""
    wall = tint(
        rng,
        (0.62, 0.38, 0.28),
        (0.74, 0.64, 0.48),
        (0.56, 0.54, 0.54),
        (0.78, 0.72, 0.62),
        (0.5, 0.32, 0.26),
        (0.72, 0.52, 0.36),
        (0.45, 0.4, 0.4),
    )
    glass = tint(rng, (0.16, 0.2, 0.26), (0.3, 0.38, 0.46), (0.5, 0.6, 0.7), (0.1, 0.1, 0.12))
    shop = tint(
        rng,
        (0.5, 0.2, 0.18),
        (0.2, 0.32, 0.28),
        (0.25, 0.3, 0.5),
        (0.65, 0.6, 0.5),
        (0.3, 0.3, 0.3),
    )
    step, floor, offset = rng.uniform(1.6, 3.4), rng.uniform(2.7, 3.6), rng.uniform(0, 3)
    share, tall, has_shop = rng.uniform(0.4, 0.75), rng.uniform(0.45, 0.7), rng.random() < 0.5
    lights = rng.uniform(0.6, 1.4, 997)

    def shade(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        column, storey = np.floor((u + offset) / step).astype(int), np.floor(v / floor).astype(int)
        across, up = ((u + offset) / step) % 1, (v / floor) % 1
        window = (
            (np.abs(across - 0.5) < share / 2)
            & (np.abs(up - 0.52) < tall / 2)
            & (v < wall_height - 0.6)
        )
        colour = np.repeat(wall[None], len(u), axis=0)
        colour *= (1 - 0.12 * ((v % 0.5 < 0.06) | (up < 0.05)))[:, None]
        brightness = lights[(column * 31 + storey * 17) % 997][:, None]
        colour = np.where(window[:, None], glass * brightness, colour)
        colour[window & (np.abs(across - 0.5) < 0.03)] = wall * 0.8  # the bar between two panes
        if has_shop:
            colour[storey == 0] = shop
            pane = (storey == 0) & (np.abs(across - 0.5) < 0.42) & (up > 0.15) & (up < 0.7)
            colour[pane] = (glass * brightness)[pane] * 1.2
        colour[v > wall_height - 0.45] = wall * 0.6  # cornice
        return colour

    return shade


def paint_building(
    canvas: Canvas, rng: np.random.Generator, wall: float, near: float, far: float, light: float
) -> None:
    """One house: its end wall facing the camera, then the front along the street."""
    camera, high, deep = canvas.camera, rng.uniform(4, 20), math.copysign(rng.uniform(6, 14), wall)
    shade = facade(rng, high)

    def front_depth(x, y):
        return np.clip(
            camera.focal * wall / np.where(np.abs(x - camera.centre) < 0.5, 0.5, x - camera.centre),
            near,
            far,
        )

    def front(x, y):
        z = front_depth(x, y)
        return light * shade(z, camera.eye - (y - camera.horizon) * z / camera.focal)

    def end(x, y):
        scale = near / camera.focal
        return 0.8 * shade((x - camera.centre) * scale, camera.eye - (y - camera.horizon) * scale)

    canvas.paint(
        camera.project(np.column_stack([box(wall, wall + deep, 0, high), np.full(4, near)])),
        BUILDING,
        end,
        near,
    )
    corners = np.array([(wall, 0, near), (wall, 0, far), (wall, high, far), (wall, high, near)])
    canvas.paint(camera.project(corners), BUILDING, front, front_depth)


def paint_houses(canvas: Canvas, rng: np.random.Generator, street: Street) -> None:
    lights = rng.permutation([rng.uniform(0.65, 0.9), rng.uniform(0.9, 1.15)])
    for wall, light in zip((street.wall_left, street.wall_right), lights):
        plots, z = [], 1.0
        built = rng.choice([0.95, 0.8, 0.35])  # closed rows, gaps, or nearly open country
        while z < 120:
            length = rng.uniform(6, 18)
            plots.append((z, z + length, rng.random() < built))
            z += length + (rng.uniform(1, 6) if rng.random() < 0.3 else 0)
        for near, far, has_house in reversed(plots):
            if abs((near + far) / 2 - street.crossing) < 4 + (far - near) / 2:
                continue
            if has_house:
                paint_building(canvas, rng, wall, near, far, light)
            else:
                for _ in range(rng.integers(1, 4)):
                    paint_tree(
                        canvas,
                        rng,
                        wall + math.copysign(rng.uniform(1.5, 5), wall),
                        rng.uniform(max(near, 3), max(far, 4)),
                    )


def paint_tree(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    high, leaf = (
        rng.uniform(3.5, 9),
        tint(
            rng,
            (0.22, 0.38, 0.12),
            (0.3, 0.45, 0.15),
            (0.16, 0.3, 0.14),
            (0.24, 0.4, 0.2),
            (0.5, 0.36, 0.1),
        ),
    )
    bush = rng.random() < 0.25
    high = rng.uniform(0.7, 1.6) if bush else high
    base = 0 if bush else high * rng.uniform(0.25, 0.4)
    spread = high * (rng.uniform(0.5, 0.9) if bush else rng.uniform(0.2, 0.35))
    canvas.shadow(x, z, spread, spread * 0.5, 0.4)
    if not bush:
        trunk = high * rng.uniform(0.018, 0.035)
        canvas.board(
            box(x - trunk, x + trunk, 0, base + high * 0.2),
            z,
            VEGETATION,
            tint(rng, (0.3, 0.22, 0.16), (0.35, 0.32, 0.28)),
        )
    for _ in range(14):  # tufts, the lit ones last and above
        up, radius = rng.random(), spread * rng.uniform(0.28, 0.55)
        tuft = ellipse(
            x + rng.uniform(-0.7, 0.7) * spread * (1.1 - abs(up - 0.4)),
            base + up * (high - base - radius * 0.6),
            radius,
            radius * 0.8,
            13,
        )
        tuft += rng.normal(0, radius * 0.09, tuft.shape)
        canvas.board(tuft, z, VEGETATION, leaf * (0.65 + 0.55 * up) * rng.uniform(0.8, 1.2))


def paint_pole(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    """A lamp post, or the post of one or two signs or of a traffic light."""
    metal = tint(rng, (0.66, 0.68, 0.7), (0.55, 0.57, 0.6), (0.6, 0.66, 0.62))
    half = rng.uniform(0.15, 0.22)
    kind = rng.choice(["lamp", "sign", "sign", "light", "bare"])
    high = {
        "lamp": rng.uniform(5, 8),
        "sign": rng.uniform(2.6, 3.4),
        "light": rng.uniform(3, 3.8),
        "bare": rng.uniform(3, 9),
    }[kind]
    sides = (
        (-0.4 * half, metal * 0.65),
        (0.3 * half, metal * 1.2),
    )  # a round post: dark on one side, light on the other
    canvas.shadow(x, z, 0.5, 0.2, 0.3)
    canvas.board(box(x - half, x + half, 0, high), z, POLE, metal)
    canvas.board(box(x - half, x + sides[0][0], 0, high), z, POLE, sides[0][1])
    canvas.board(box(x + sides[1][0], x + half, 0, high), z, POLE, sides[1][1])
    if kind == "lamp":
        reach = -math.copysign(rng.uniform(0.8, 1.6), x)
        canvas.board(
            [(x, high - 0.3), (x + reach, high + 0.05), (x + reach, high + 0.35), (x, high)],
            z,
            POLE,
            metal,
        )
        canvas.board(
            ellipse(x + reach, high + 0.15, 0.5, 0.22),
            z,
            POLE,
            np.array([0.85, 0.82, 0.7]) * rng.uniform(0.5, 1.1),
        )
    if kind == "sign":
        paint_sign(canvas, rng, x, high - 0.3, z)
        if rng.random() < 0.3:
            paint_sign(canvas, rng, x, high - 1.15, z)
    if kind == "light":
        canvas.board(box(x - 0.22, x + 0.22, high - 0.9, high + 0.2), z, SIGN, (0.08, 0.08, 0.09))
        lit = rng.integers(3)
        for i, colour in enumerate([(0.2, 0.85, 0.4), (0.95, 0.75, 0.1), (0.9, 0.15, 0.1)]):
            canvas.board(
                ellipse(x, high - 0.72 + 0.36 * i, 0.13, 0.13, 10),
                z,
                SIGN,
                np.array(colour) * (1 if i == lit else 0.3),
            )


def paint_sign(canvas: Canvas, rng: np.random.Generator, x: float, y: float, z: float) -> None:
    rim, face = [
        ((0.75, 0.08, 0.1), (0.93, 0.93, 0.92)),
        ((0.1, 0.25, 0.65), (0.12, 0.3, 0.75)),
        ((0.1, 0.1, 0.1), (0.95, 0.75, 0.1)),
        ((0.75, 0.08, 0.1), (0.75, 0.08, 0.1)),
        ((0.9, 0.9, 0.9), (0.1, 0.4, 0.25)),
    ][rng.integers(5)]
    size, light = rng.uniform(0.55, 0.75), rng.uniform(0.8, 1.05)
    shape = rng.integers(4)
    outlines = [
        lambda r: ellipse(x, y, r, r),
        lambda r: ellipse(x, y, r * 1.15, r * 1.15, 4),
        lambda r: np.array([(x - r * 1.1, y - r * 0.9), (x + r * 1.1, y - r * 0.9), (x, y + r)]),
        lambda r: box(x - r, x + r, y - r * 0.75, y + r * 0.75),
    ]
    canvas.board(outlines[shape](size), z, SIGN, np.array(rim) * light)
    canvas.board(outlines[shape](size * 0.75), z, SIGN, np.array(face) * light)
    canvas.board(
        box(x - size * 0.35, x + size * 0.35, y - size * 0.12, y + size * 0.12),
        z,
        SIGN,
        (0.15, 0.15, 0.2) if sum(face) > 1.6 else (0.92, 0.92, 0.9),
    )


def paint_car(canvas: Canvas, rng: np.random.Generator, x: float, z: float, towards: bool) -> None:
    """A car as two boxes, body and cabin: the face towards the camera, and the side that
    perspective shows."""
    body = tint(
        rng,
        (0.75, 0.75, 0.76),
        (0.12, 0.12, 0.13),
        (0.55, 0.1, 0.1),
        (0.14, 0.22, 0.42),
        (0.85, 0.85, 0.84),
        (0.35, 0.36, 0.38),
        (0.2, 0.34, 0.26),
        (0.75, 0.6, 0.25),
        (0.45, 0.48, 0.52),
    )
    half, length, high = rng.uniform(0.82, 0.98), rng.uniform(3.6, 4.8), rng.uniform(1.4, 1.9)
    waist, glass = high * rng.uniform(0.52, 0.6), tint(rng, (0.12, 0.14, 0.17), (0.3, 0.36, 0.42))
    slope = (
        rng.uniform(0.1, 0.5),
        rng.uniform(0.3, 1.1),
    )  # how far the rear and the front window lean
    side = x - half if x > 0 else x + half  # the flank turned to the camera
    canvas.shadow(x, z + length / 2, half + 0.15, length / 2 + 0.2, 0.6)

    def flank(profile, shade):
        points = np.array([(side, y, z + along) for along, y in profile])
        canvas.paint(canvas.camera.project(points), CAR, shade, z)

    flank([(0, 0.3), (length, 0.3), (length, waist * 0.85), (0, waist)], body * 0.72)
    flank(
        [
            (slope[0], high),
            (length * 0.62, high),
            (length * 0.62 + slope[1], waist * 0.9),
            (0, waist),
        ],
        glass * 0.9,
    )
    flank(
        [
            (slope[0], high),
            (length * 0.62, high),
            (length * 0.6, high - 0.1),
            (slope[0], high - 0.1),
        ],
        body * 0.7,
    )
    flank(
        [
            (length * 0.36, high),
            (length * 0.4, high),
            (length * 0.4, waist),
            (length * 0.36, waist),
        ],
        body * 0.6,
    )
    for along in (length * 0.18, length * 0.8):
        flank(
            [
                (along + 0.33 * math.cos(a), 0.33 + 0.33 * math.sin(a))
                for a in np.linspace(0, 2 * math.pi, 14)
            ],
            (0.06, 0.06, 0.07),
        )
        flank(
            [
                (along + 0.17 * math.cos(a), 0.33 + 0.17 * math.sin(a))
                for a in np.linspace(0, 2 * math.pi, 10)
            ],
            (0.4, 0.4, 0.42),
        )
    for wheel in (-1, 1):
        canvas.board(
            box(x + wheel * (half - 0.02), x + wheel * (half - 0.24), 0, 0.4),
            z,
            CAR,
            (0.05, 0.05, 0.06),
        )
    canvas.board(
        [(x - half, 0.28), (x + half, 0.28), (x + half, waist), (x - half, waist)], z, CAR, body
    )
    narrow = half * 0.8
    canvas.board(
        [
            (x - half * 0.97, waist),
            (x + half * 0.97, waist),
            (x + narrow, high),
            (x - narrow, high),
        ],
        z,
        CAR,
        body * 1.08,
    )
    canvas.board(
        [
            (x - half * 0.85, waist + 0.04),
            (x + half * 0.85, waist + 0.04),
            (x + narrow * 0.88, high - 0.12),
            (x - narrow * 0.88, high - 0.12),
        ],
        z,
        CAR,
        glass,
    )
    lamp = (0.95, 0.93, 0.8) if towards else (0.75, 0.1, 0.08)
    for wing in (-1, 1):
        canvas.board(
            box(x + wing * half * 0.62, x + wing * half * 0.95, waist * 0.72, waist * 0.92),
            z,
            CAR,
            lamp,
        )
    canvas.board(box(x - half, x + half, 0.28, 0.42), z, CAR, body * 0.45)
    canvas.board(box(x - 0.26, x + 0.26, 0.46, 0.58), z, CAR, (0.9, 0.9, 0.85))


def paint_person(canvas: Canvas, rng: np.random.Generator, x: float, z: float) -> None:
    high, stride, build = rng.uniform(1.45, 1.9), rng.uniform(0.05, 0.22), rng.uniform(0.27, 0.36)
    top = tint(
        rng,
        (0.85, 0.15, 0.15),
        (0.15, 0.3, 0.8),
        (0.9, 0.85, 0.8),
        (0.95, 0.6, 0.1),
        (0.65, 0.25, 0.6),
        (0.15, 0.55, 0.5),
    )
    legs = tint(rng, (0.15, 0.18, 0.28), (0.12, 0.12, 0.12), (0.4, 0.36, 0.3), (0.3, 0.35, 0.45))
    skin = tint(rng, (0.85, 0.66, 0.54), (0.55, 0.38, 0.28), (0.36, 0.24, 0.18))
    hip, shoulder, swing = high * 0.48, high * 0.82, rng.uniform(-0.12, 0.12)
    canvas.shadow(x, z, 0.4, 0.2, 0.45)
    for side, shoe in ((-1, x - stride), (1, x + stride)):
        canvas.board(
            [
                (x + side * build * 0.55 - 0.1, hip),
                (x + side * build * 0.45 + 0.1, hip),
                (shoe + 0.08, 0),
                (shoe - 0.08, 0),
            ],
            z,
            PERSON,
            legs * (1 if side > 0 else 0.8),
        )
    for side in (-1, 1):
        canvas.board(
            [
                (x + side * build, shoulder),
                (x + side * build * 0.6, shoulder - 0.1),
                (x + side * (build + 0.02) + swing, hip),
                (x + side * (build + 0.12) + swing, hip + 0.04),
            ],
            z,
            PERSON,
            top * 0.8,
        )
    canvas.board(
        [
            (x - build, shoulder),
            (x + build, shoulder),
            (x + build * 0.8, hip - 0.12),
            (x - build * 0.8, hip - 0.12),
        ],
        z,
        PERSON,
        top,
    )
    canvas.board(ellipse(x, high * 0.91, high * 0.062, high * 0.085, 14), z, PERSON, skin)
    canvas.board(
        ellipse(x, high * 0.95, high * 0.066, high * 0.055, 14),
        z,
        PERSON,
        tint(rng, (0.12, 0.09, 0.07), (0.4, 0.28, 0.15), (0.6, 0.6, 0.6)),
    )


def place_objects(rng: np.random.Generator, street: Street) -> list:
    """What stands in the street, as (distance, painter), in no order."""
    objects = []
    for kerb, side in ((street.kerb_left, -1), (street.kerb_right, 1)):
        wall = street.wall_left if side < 0 else street.wall_right
        width = abs(wall - kerb)
        z = rng.uniform(4, 9)
        while z < 14:  # furniture along the kerb
            x = kerb + side * rng.uniform(0.3, 0.6)
            if abs(z - street.crossing) > 5:
                objects.append(
                    (z, partial(paint_pole if rng.random() < 0.72 else paint_tree, x=x, z=z))
                )
            z += rng.uniform(3.5, 9)
        for _ in range(rng.poisson(6)):
            z = 3 + 4.5 * rng.random()
            objects.append(
                (z, partial(paint_person, x=kerb + side * rng.uniform(0.4, width - 0.3), z=z))
            )
        z, parked = rng.uniform(5, 12), rng.random() < 0.5
        while z < 20:
            if parked and rng.random() < 0.6 and abs(z + 2 - street.crossing) > 8:
                objects.append((z, partial(paint_car, x=kerb - side * 1.15, z=z, towards=side < 0)))
            z += rng.uniform(6, 9)
    for left, right in zip(street.lanes, street.lanes[1:]):  # traffic
        middle, z = (left + right) / 2, rng.uniform(6, 20)
        while z < 24:
            if rng.random() < 0.5:
                objects.append(
                    (
                        z,
                        partial(
                            paint_car, x=middle + rng.uniform(-0.2, 0.2), z=z, towards=middle < -1.5
                        ),
                    )
                )
            z += rng.uniform(9, 25)
    if rng.random() < 0.3:
        z = rng.uniform(4, 12)  # somebody crosses the road
        objects.append(
            (z, partial(paint_person, x=rng.uniform(street.kerb_left, street.kerb_right), z=z))
        )
    return objects


def weather(canvas: Canvas, rng: np.random.Generator, below, light) -> np.ndarray:
    """The picture as a camera would have seen it, half the canvas's size: haze, light, exposure,
    rain, noise."""
    height, width = canvas.mask.shape[0] // 2, canvas.mask.shape[1] // 2
    sight = rng.choice([rng.uniform(60, 120), rng.uniform(200, 500), 2000], p=[0.1, 0.3, 0.6])
    clear = np.exp(-canvas.depth / sight)[..., None]
    fog = np.array(below, np.float32) * 0.95
    image = fog + (canvas.image * np.array(light, np.float32) - fog) * clear
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    cast = (rng.normal(1, 0.03, 3) * rng.uniform(0.85, 1.2)).astype(np.float32)
    image = np.clip(image * cast, 0, 1) ** np.float32(rng.uniform(0.9, 1.1))
    grey = image.mean(axis=2, keepdims=True)
    image = grey + (image - grey) * np.float32(rng.uniform(0.6, 1.15))
    if rng.random() < 0.15:  # rain
        drops = (rng.random((height, width)) < 0.006).astype(np.float32)
        streak = np.zeros((9, 9), np.float32)
        cv2.line(streak, (4 + int(rng.integers(-1, 2)), 0), (4, 8), 1.0)
        image += 0.18 * np.clip(cv2.filter2D(drops, -1, streak), 0, 1)[..., None]
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)
    image *= (1 - rng.uniform(0, 0.3) * (x * x + y * y) / 2)[..., None]  # darker corners
    image += rng.uniform(0.004, 0.02) * rng.standard_normal(image.shape, np.float32)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8)


def shrink_mask(mask: np.ndarray) -> np.ndarray:
    """Half the size: of four pixels the class that most of them have, the one in front where two
    and two tie."""
    height, width = mask.shape
    four = np.sort(
        mask.reshape(height // 2, 2, width // 2, 2)
        .transpose(0, 2, 1, 3)
        .reshape(height // 2, width // 2, 4),
        axis=2,
    )
    return np.where(
        four[..., 2] == four[..., 3],
        four[..., 2],
        np.where(four[..., 0] == four[..., 1], four[..., 0], four[..., 2]),
    )


def draw_scene(
    seed: int, height: int = SIZE[0], width: int = SIZE[1]
) -> tuple[np.ndarray, np.ndarray]:
    """One street: picture uint8 (H, W, 3) RGB and mask uint8 (H, W); drawn at twice the size,
    for smooth edges."""
    rng = np.random.default_rng(seed)
    tall, wide = 2 * height, 2 * width
    camera = Camera(
        tall,
        wide,
        focal=tall * rng.uniform(1.25, 1.65),
        horizon=tall * rng.uniform(0.36, 0.54),
        centre=wide * rng.uniform(0.3, 0.7),
        eye=rng.uniform(1.25, 2.6),
    )
    above, below, light = DAYLIGHTS[rng.choice(len(DAYLIGHTS), p=[0.38, 0.24, 0.14, 0.08, 0.16])]
    canvas, street = Canvas(camera), lay_street(rng)
    paint_sky(canvas, rng, above, below)
    paint_skyline(canvas, rng)
    paint_ground(canvas, rng, street)
    paint_houses(canvas, rng, street)
    for _, painter in sorted(place_objects(rng, street), key=lambda item: -item[0]):
        painter(canvas, rng)
    return weather(canvas, rng, below, light), shrink_mask(canvas.mask)


def draw_pair(index: int, folder: Path) -> None:
    image, mask = draw_scene(index)
    Image.fromarray(image).save(folder / "images" / f"street_{index:04d}.png")
    Image.fromarray(mask).save(folder / "masks" / f"street_{index:04d}.png")


def make_streets(folder: Path, bar: Callable = tqdm) -> None:
    """Fill folder with images/, masks/ and classes.csv; it appears whole or not at all. A bar shows
    how far it is."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".unfinished-streets-"))
    unfinished = aside / folder.name
    try:
        for name in ("images", "masks"):
            (unfinished / name).mkdir(parents=True)
        with open(unfinished / "classes.csv", "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["id", "name", "red", "green", "blue"])
            table.writerows([i, name, *colour] for i, (name, colour) in enumerate(CLASSES))
        with Pool() as pool:
            drawn = pool.imap_unordered(
                partial(draw_pair, folder=unfinished), range(PICTURES), chunksize=4
            )
            for _ in bar(drawn, "drawing Streets", PICTURES, unit="picture"):
                pass
        if not folder.exists():  # another run may have drawn them at the same time
            unfinished.rename(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


if __name__ == "__main__":
    target = Path(__file__).parent / "streets"
    if target.exists():
        raise SystemExit(f"{target} is there already; move it away to draw it anew")
    make_streets(target)
