"""CamVid in 20 to 35 minutes on two CPU cores: squares of 2×2 pixels taken as one.

Chips that compute in bf16 take the pictures at their full 480×360; others, which are slower, at
384×256 and for fewer steps.

The net learns on windows of 0.8 of a picture's sides, and is judged on whole pictures: where a
thing stands in a picture then says less, and a step takes two thirds of the time. The rate ends
high, so that the weights still move, and their mean is judged. Together these hold a little better
on films that were not trained on (docs/results.md).

Parts of other pictures are pasted in (mix): films that were not trained on are then met a little
better, each of the three that there are; of a dozen changes it gained most. On one of these films a
wider net trained for fewer steps also held better than 16, 32, 64, 128 trained for longer
(docs/results.md).

The data and its place are those of recipes/camvid.py. Rare classes count more (class_weights):
without that poles, signs and bicyclists, which have few pixels, are met much later.
"""

from toolbox.machine import Place as _Place

# The device and precision of the run are handed in.
_place = _Place(globals().get("device", "auto"), globals().get("precision", "auto"))
_is_fast = _place.precision != "fp32"

dataset = "camvid"
image_size = (360, 480) if _is_fast else (256, 384)
training_scale = 1.0
crop_size = (288, 384) if _is_fast else (224, 320)

architecture = "unet"
features = (32, 64, 128, 256)
dropout = 0.0
patch = 2

batch_size = 4
accum_steps = 1
training_iterations = 4200 if _is_fast else 2000
loss = "ce+dice"
class_weights = 0.5
optimizer = "muon"
lr_schedule = "cosine"
base_lr = 1.2e-2
min_lr = 3e-3
ema_decay = 0.995
warmup_steps = 100
weight_decay = 0.1  # ten times AdamW's usual: learns more slowly at first, less by heart in the end
augment = "zoom+flip+color+grey"
mix = 0.5
augment_strength = 2.0  # 367 pictures, seen 46 times each, or 22

eval_interval = 840
eval_iterations = 12
save_model_interval = 840
