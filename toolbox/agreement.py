"""Whether an exported graph gives what inference.py gives: picture by picture, and as a whole."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from toolbox.errors import InputError
from toolbox.inputs import find_inputs, picture_endings
from toolbox.masks import read_image, resize_image
from toolbox.tiles import Prediction

import numpy as np

MOST_PICTURES = 50  # to compare; more of them show nothing new
ONE_IN = 10_000  # one pixel in so many may get another class
FEW = 3  # pixels may, where a picture is too small for that
MOST_APART = 1e-4  # a picture's mean confidence here and there


class Compared(NamedTuple):
    """A picture as the graph and inference.py see it."""

    name: str
    shape: tuple[int, int]
    alike: int  # pixels that get the same class
    apart: float  # the two mean confidences

    @property
    def pixels(self) -> int:
        return self.shape[0] * self.shape[1]

    def __str__(self) -> str:
        height, width = self.shape
        return (
            f"{self.name} ({width}×{height}): {self.alike:,} of {self.pixels:,} pixels get the "
            f"same class, mean confidence is {self.apart:.0e} apart"
        )


def find_pictures(input_dir: str | Sequence[str]) -> list[Path]:
    """The pictures that are there to compare; of many the first."""
    found = find_inputs(input_dir, output_dir=os.devnull, recursive=False)
    endings = picture_endings()
    paths = [path for path in found.places if path.suffix.lower() in endings]
    if len(paths) > MOST_PICTURES:
        print(f"of {len(paths)} pictures the first {MOST_PICTURES} are compared")
    return paths[:MOST_PICTURES]


def pictures_to_compare(
    input_dir: str | Sequence[str], image_size: Sequence[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and pictures: those that are there; and the last of them, or noise, at sizes below the
    net's, above it, and above it on one side alone."""
    height, width = image_size
    sample = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    for path in find_pictures(input_dir):
        try:
            sample = read_image(path)
        except InputError as problem:
            print(f"not compared: {problem}")
            continue
        yield path.name, sample
    sizes = {
        "smaller": (height // 2 + 1, width // 3 + 1),
        "larger": (height * 3 // 2 + 1, width * 5 // 4 + 3),
        "wider": (height // 2 + 1, width * 5 // 2 + 3),
    }
    for name, size in sizes.items():
        yield f"made up, {name}", resize_image(sample, size)


def compare_all(
    file: str,
    input_dir: str | Sequence[str],
    image_size: Sequence[int],
    predict: Callable[[np.ndarray], Prediction],
) -> list[Compared]:
    """What onnxruntime makes of a file's graph beside what predict makes of the same pictures."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    results = []
    for name, picture in pictures_to_compare(input_dir, image_size):
        ids, confidence = session.run(None, {"picture": picture})
        expected = predict(picture)
        alike = int((ids == expected.ids).sum())
        apart = abs(float(confidence.mean(dtype=np.float64)) - expected.confidence)
        result = Compared(name, expected.ids.shape, alike, apart)
        print(result)
        results.append(result)
    return results


def is_far_off(result: Compared) -> bool:
    allowed = max(FEW, result.pixels / ONE_IN)
    is_close = result.apart <= MOST_APART  # not where one of them is no number
    return result.pixels - result.alike > allowed or not is_close


def check_agreement(results: Sequence[Compared], path: Path) -> None:
    """Raise where too many pixels get another class than from inference.py, in one picture or in
    all of them, or are sure otherwise."""
    pixels = sum(result.pixels for result in results)
    alike = sum(result.alike for result in results)
    found = f"{alike / pixels:.4%} of {pixels:,} pixels get the class that inference.py gives them"
    far_off = [result for result in results if is_far_off(result)]
    if far_off or pixels - alike > pixels / ONE_IN:
        worst = min(far_off or results, key=lambda result: result.alike / result.pixels)
        raise InputError(
            f"{path} was not written, as its graph is not what the net is: {found}, expected "
            f"{1 - 1 / ONE_IN:.2%} and mean confidences at most {MOST_APART:.0e} apart; the worst "
            f"is {worst}. Try the packages as `pip install -U -r requirements-export.txt` brings "
            "them"
        )
    print(found)
