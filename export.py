"""The trained net as one file for other programs: `python export.py` writes unet_model.onnx.

The file holds all that stands between a picture and its classes, so that onnxruntime alone can run
it, in C++, Java, JavaScript, C# or Python, without PyTorch and without this project:

    picture     in   uint8 (H, W, 3), RGB, of any size
    ids         out  uint8 (H, W), each pixel's class
    confidence  out  float32 (H, W), how probable that class is, 0..1

Resizing, scaling, padding, cropping and enlarging are in the graph; classes, image_size, scale and
step are in its metadata, as JSON. It does what inference.py does without tile, tta and
uncertainty_passes. That is tried before the file is put in place: onnxruntime must give 99.99 % of
the pixels the class that inference.py gives them, on the pictures in InferenceOutput/TestImages and
on some of odd sizes.

    pip install -r requirements-export.txt      what it needs besides, once
    python export.py [CHECKPOINT] [FOLDER or PICTURE to compare] [name=value …]
"""

from pathlib import Path

from toolbox.exporting import check_packages, export
from toolbox.machine import Place
from toolbox.masks import resize_image
from toolbox.settings import run_script
from toolbox.tiles import Prediction

import numpy as np

import inference
from utils import load_checkpoint

checkpoint = "unet_model.pth"  # or an earlier run's TrainingOutput/<run>/best.pth
output = "unet_model.onnx"  # a file of this name that export.py has not made is left as it is
input_dir = "InferenceOutput/TestImages"  # pictures to compare with inference.py


def main() -> None:
    check_packages()
    place = Place("cpu", "fp32")
    saved = load_checkpoint(Path(checkpoint))
    # Whatever stands in inference.py: a graph looks once, at a whole picture.
    inference.tile, inference.tta, inference.uncertainty_passes = False, False, 0
    model = inference.load_model(saved, place)
    image_size = saved["image_size"]

    def predict(picture: np.ndarray) -> Prediction:
        small = resize_image(picture, image_size)
        (prediction,) = inference.predict(model, [picture.shape[:2]], small[None], place)
        return prediction

    path = export(model, saved, output, input_dir, predict)
    print(f"{path} is written: {len(saved['classes'])} classes, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    run_script(globals(), main)
