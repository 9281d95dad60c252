"""A net as an ONNX file: pictures of any size in, classes out; put in place only where it gives what
inference.py gives."""

import json
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO, NamedTuple

from toolbox.digests import digest_of
from toolbox.errors import InputError
from toolbox.files import list_files, own_path, write_atomic
from toolbox.inputs import picture_endings
from toolbox.masks import read_image, resize_image
from toolbox.tiles import Prediction

import numpy as np
import torch
from torch import nn

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INSTALL = "pip install -r requirements-export.txt"
MAKER = "export.py"  # stands in the file, and is why the next one may take its place
OPSET, IR_VERSION = 18, 10  # of 2022 and 2024: what reads ONNX today reads these
LARGEST = 2**31 - 2**20  # bytes of weights that fit into one ONNX file
MOST_PICTURES = 50  # to compare; more of them show nothing new
LEAST_ALIKE = 0.9999  # of the pixels
MOST_APART = 1e-4  # a picture's mean confidence here and there


def check_packages() -> None:
    lacking = [name for name in PACKAGES if find_spec(name) is None]
    if lacking:
        raise InputError(
            f"export.py needs the package(s) {', '.join(lacking)}, and this Python has none of "
            f"that name; `{INSTALL}` brings all that it needs"
        )


# ---- the graph ----


def make_graph(model: nn.Module, image_size: Sequence[int]):
    """The ONNX model of a net at rest, with all that stands before and behind it."""
    from toolbox import graphs  # these take a second, and not everybody has them

    from onnx import compose, inliner, numpy_helper
    from onnxscript import optimizer

    before = inliner.inline_local_functions(graphs.before_net.to_model_proto())
    size = np.array(image_size, np.int64)
    before.graph.initializer.append(numpy_helper.from_array(size, "size"))
    del before.graph.input[1]  # size is no input any more
    before = compose.add_prefix(before, "before/", rename_inputs=False)
    net = compose.add_prefix(graph_of_net(model, image_size), "net/")
    after = graphs.after_net.to_model_proto()
    whole = compose.merge_models(before, net, [("before/images", "net/images")])
    ends = [("net/logits", "logits"), ("before/sides", "sides")]
    whole = compose.merge_models(whole, after, ends)
    whole.graph.name = "unet"
    return optimizer.optimize(whole)


def graph_of_net(model: nn.Module, image_size: Sequence[int]):
    """The ONNX model of a net alone: float images (1, 3, h, w) in, logits (1, K, h, w) out."""
    size = sum(weights.nbytes for weights in model.state_dict().values())
    if size > LARGEST:
        raise InputError(
            f"the net's weights are {size:,} bytes, and an ONNX file holds 2 GiB; train one with "
            "smaller features"
        )
    images = torch.zeros(1, 3, *image_size)
    names = dict(input_names=["images"], output_names=["logits"])
    try:
        program = torch.onnx.export(
            model, (images,), dynamo=True, opset_version=OPSET, verbose=False, **names
        )
    except torch.onnx.errors.OnnxExporterError as error:
        raise InputError(
            f"this net has something that ONNX has no word for ({str(error).splitlines()[0]}); "
            "take it out of model.py and train again, or use inference.py"
        ) from error
    net = program.model_proto
    net.ir_version = IR_VERSION
    net.graph.ClearField("value_info")
    for node in net.graph.node:
        node.ClearField("metadata_props")  # lines of model.py, and where that lies on this disk
    return net


def describe(saved: dict) -> dict[str, str]:
    """What the file says of itself: texts, which are JSON where they are more than that."""
    texts = {"maker": MAKER, "checkpoint_digest": digest_of(saved)}
    for name in ("classes", "image_size", "scale", "step"):
        if name in saved:  # the first checkpoints lacked some
            texts[name] = json.dumps(saved[name], ensure_ascii=False)
    return texts


def is_ours(path: Path) -> bool:
    """Whether export.py has made the file that lies there."""
    import onnx
    from google.protobuf.message import DecodeError

    if path.is_symlink() or not path.is_file():
        return False
    try:
        found = onnx.load(path, load_external_data=False)
    except (DecodeError, OSError):
        return False
    return any(entry.key == "maker" and entry.value == MAKER for entry in found.metadata_props)


# ---- comparing ----


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
            f"{self.name} ({width}×{height}): {self.alike / self.pixels:.4%} of the pixels alike, "
            f"mean confidence {self.apart:.1e} apart"
        )


def find_pictures(input_dir: str) -> list[Path]:
    """The pictures to compare: the first of a folder, or one alone."""
    root = Path(input_dir)
    if not root.exists():
        raise InputError(
            f"input_dir {input_dir} is not there; expected a folder of pictures to compare with "
            "inference.py, or one picture"
        )
    if not root.is_dir():
        return [root]
    endings = picture_endings()
    found = [path for path in list_files(root) if path.suffix.lower() in endings]
    if len(found) > MOST_PICTURES:
        print(f"{len(found)} pictures in {input_dir}, of which the first {MOST_PICTURES} count")
    return found[:MOST_PICTURES]


def pictures_to_compare(
    input_dir: str, image_size: Sequence[int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Names and pictures: those there are, and one at odd sizes: less, more, and wider than the
    net's."""
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
        "less": (height // 2 + 1, width // 3 + 1),
        "more": (height * 3 // 2 + 1, width * 5 // 4 + 3),
        "wider": (height // 2 + 1, width * 5 // 2 + 1),
    }
    for name, size in sizes.items():
        yield f"made up, {name}", resize_image(sample, size)


def compare(
    file: str,
    input_dir: str,
    image_size: Sequence[int],
    predict: Callable[[np.ndarray], Prediction],
) -> list[Compared]:
    """What onnxruntime makes of a file's graph, picture by picture, beside a Prediction."""
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    results = []
    for name, picture in pictures_to_compare(input_dir, image_size):
        ids, confidence = session.run(None, {"picture": picture})
        expected = predict(picture)
        shape = picture.shape[:2]
        assert ids.shape == confidence.shape == shape
        alike = int((ids == expected.ids).sum())
        apart = abs(float(confidence.mean(dtype=np.float64)) - expected.confidence)
        results.append(Compared(name, shape, alike, apart))
        print(results[-1])
    return results


def check_alike(results: Sequence[Compared], path: Path) -> None:
    """Raise where the graph gives other classes than inference.py, on all pictures or on one."""
    for part in [results, *([result] for result in results)]:
        pixels = sum(result.pixels for result in part)
        wrong = pixels - sum(result.alike for result in part)
        allowed = pixels * (1 - LEAST_ALIKE)
        if len(part) == 1:
            allowed = max(3, allowed)  # of a small one, more than three pixels
        apart = max(result.apart for result in part)
        if wrong > allowed or not apart <= MOST_APART:
            raise InputError(
                f"{path} was not written: {1 - wrong / pixels:.4%} of the pixels of "
                f"{len(part)} picture(s) ({part[0].name} …) get the class that inference.py gives "
                f"them, and mean confidence is up to {apart:.1e} apart; expected {LEAST_ALIKE:.2%} "
                f"and at most {MOST_APART}. Other versions of the packages may help: `{INSTALL}`"
            )


# ---- writing ----


def export(
    model: nn.Module,
    saved: dict,
    output: str,
    input_dir: str,
    predict: Callable[[np.ndarray], Prediction],
) -> Path:
    """Write a net's graph aside, compare what it gives with predict's, and put it in place."""
    import onnx

    graph = make_graph(model, saved["image_size"])
    onnx.helper.set_model_props(graph, describe(saved))
    path = own_path(Path(output), is_ours)
    if path != Path(output):
        print(f"{output} is not from export.py, and stays as it is")

    def write_and_compare(file: BinaryIO) -> None:
        file.write(graph.SerializeToString())
        file.flush()
        check_alike(compare(file.name, input_dir, saved["image_size"], predict), path)

    write_atomic(path, write_and_compare)
    return path
