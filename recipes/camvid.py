"""CamVid at its full 480×360 with 11 classes, the paper's widths, learnt from scratch; for a GPU.

Published for a U-Net of 31.03 million parameters from scratch at this size: a validation mean IoU
of 71.95 (OpenVINO's model zoo). How it was trained is published in outline only. The steps, rate
and augmentation are ours; training_scale, weight_decay and augment_strength are what
camvid_small.py gained by. On an H200 it takes some 8 minutes; nine tenths of it made 0.81
(docs/results.md).

Data, as the SegNet tutorial's repository gives it out: its CamVid/ folder (train, trainannot, val,
…) goes into Dataset/CamVid, or name it:

    python train.py recipes/camvid.py data_dir=PATH
"""

dataset = "camvid"
image_size = (360, 480)
training_scale = 0.83  # 400×304

architecture = "unet"
features = (64, 128, 256, 512)
dropout = 0.1

batch_size = 8
accum_steps = 1
training_iterations = 200 * 367 // 8  # 200 epochs
loss = "ce+dice"
class_weights = 0.5
optimizer = "muon"
lr_schedule = "cosine"
base_lr = 5e-3
min_lr = 1e-5
warmup_steps = 200
weight_decay = 0.1
augment = "zoom+flip+color+grey"
augment_strength = 2.0

eval_interval = 10 * 367 // 8
eval_iterations = 0
save_model_interval = 10 * 367 // 8
