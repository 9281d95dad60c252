"""CamVid within two hours on two CPU cores that compute in bf16: camvid_small.py's way with a wider
net and dropout, and each picture seen 120 times: val 0.781 in 102 minutes (docs/results.md).

A chip without bf16 takes more than twice the time. The data and their place are those of
recipes/camvid.py.
"""

dataset = "camvid"
image_size = (360, 480)
training_scale = 0.83  # 384×288

architecture = "unet"
features = (48, 96, 192, 384)
dropout = 0.1
patch = 2

batch_size = 4
accum_steps = 1
training_iterations = 11000
loss = "ce+dice"
class_weights = 0.5
optimizer = "muon"
lr_schedule = "cosine"
base_lr = 1.2e-2
min_lr = 1e-5
warmup_steps = 100
weight_decay = 0.1
augment = "zoom+flip+color+grey"
mix = 0.5
augment_strength = 2.0

eval_interval = 1000
eval_iterations = 12
save_model_interval = 500
