"""A net as an ONNX file: pictures of any size in, classes out; put in place only where it gives
what inference.py gives."""

import json
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

from toolbox.agreement import check_agreement, compare_all
from toolbox.digests import digest_of
from toolbox.errors import InputError
from toolbox.files import own_path, write_atomic
from toolbox.tiles import Prediction

import numpy as np
import torch
from torch import nn

PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INSTALL = "pip install -r requirements-export.txt"
MAKER = "export.py"  # stands in the file, and is why the next one may take its place
OPSET, IR_VERSION = 18, 10  # of 2022 and 2024: what reads ONNX today reads these
LARGEST = 2**31 - 2**20  # bytes of weights that fit into one ONNX file


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
    return optimizer.optimize(whole)  # else onnxruntime warns of casts that it can't work out ahead


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
        with warnings.catch_warnings(action="ignore"):  # of PyTorch about itself
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


# ---- writing ----


def export(
    model: nn.Module,
    saved: dict,
    output: str,
    input_dir: str | Sequence[str],
    predict: Callable[[np.ndarray], Prediction],
) -> Path:
    """Write a net's graph aside, compare what it gives with what predict gives, and put it in
    place."""
    import onnx

    graph = make_graph(model, saved["image_size"])
    onnx.helper.set_model_props(graph, describe(saved))
    path = own_path(Path(output), is_ours)
    if path != Path(output):
        print(f"{output} is not from export.py, and stays as it is")

    def write_and_compare(file: BinaryIO) -> None:
        file.write(graph.SerializeToString())
        file.flush()
        results = compare_all(file.name, input_dir, saved["image_size"], predict)
        check_agreement(results, path)

    write_atomic(path, write_and_compare)
    return path
