"""CamVid small enough for two CPU cores and about 25 minutes: 384×256, squares of 2×2 pixels taken as one, and narrow levels.

Zoom shows things larger than whole pictures do. So the net learns on smaller pictures than it is judged on: things are then about as large
in both, and a step takes three quarters of the time.

The data and its place are those of recipes/camvid.py. Scores are still counted at the masks' own 480×360. Rare classes count more
(class_weights): without that poles, signs and bicyclists, which have few pixels, are met much later.
"""
dataset = "camvid"
image_size = (256, 384)
training_scale = 0.83  # 320×224

architecture = "unet"
features = (16, 32, 64, 128)
dropout = 0.0
patch = 2

batch_size = 4
accum_steps = 1
training_iterations = 3000  # 33 epochs
loss = "ce+dice"
class_weights = 0.5
optimizer = "muon"
lr_schedule = "cosine"
base_lr = 1.2e-2
min_lr = 1e-5
warmup_steps = 100
weight_decay = 0.1  # ten times AdamW's usual: learns more slowly at first, less by heart in the end
augment = "zoom+flip+color+grey"
augment_strength = 2.0  # 367 pictures, seen 33 times each

eval_interval = 500
eval_iterations = 12
save_model_interval = 500
