"""GTA5: pictures of a computer game in the colours of Cityscapes, a quarter of 1914×1052: a setting
of a published four-data-set script.

Trained with accumulated gradients, a rate that falls on a plateau, and early stopping. Its author
reports a pixel accuracy of 68.1/68.7/67.9 % (train/dev/test, split 70/15/15).

Otherwise here, and why: the 19 classes that are usually judged are trained and all else is ignored;
masks are resized by nearest neighbour alone; the two pictures whose labels are known to have
another size are left out by name; plateau and early stopping watch validation. The size, rate and
steps are ours, as the author gives none.

Lay images/ and labels/ into Dataset/gta5, or name their folder:

    python train.py recipes/gta5.py data_dir=PATH
"""

dataset = "gta5"
image_size = (264, 480)
training_scale = 1.0  # 480×256, in whole multiples of 16

architecture = "unet"
features = (64, 128, 256, 512)
dropout = 0.0

batch_size = 8
accum_steps = 2
training_iterations = 10 * 17474 // 16  # at most 10 epochs of 70 % of 24,964 pictures
loss = "ce"
optimizer = "adamw"
lr_schedule = "plateau"
plateau_patience = 3
patience = 8
base_lr = 5e-4
min_lr = 5e-6
warmup_steps = 100
weight_decay = 0.01
augment = "flip"

eval_interval = 17474 // 32
eval_iterations = 100
save_model_interval = 17474 // 32
