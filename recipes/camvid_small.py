"""CamVid small enough for two CPU cores: 192×144 in place of 480×360, and a quarter of the paper's channels.

The data and its place are those of recipes/camvid.py. Scores are still counted at the masks' own 480×360.
"""
dataset = "camvid"
image_size = (144, 192)

architecture = "unet"
features = (16, 32, 64, 128)
dropout = 0.0

batch_size = 4
accum_steps = 1
training_iterations = 15 * 367 // 4  # 15 epochs
loss = "ce+dice"
lr_schedule = "cosine"
base_lr = 4e-3
min_lr = 4e-5
warmup_steps = 50
augment = "zoom+flip+color"

eval_interval = 3 * 367 // 4
eval_iterations = 0
save_model_interval = 3 * 367 // 4
