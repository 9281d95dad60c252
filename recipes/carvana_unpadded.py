"""Carvana with the convolutions of the 2015 paper, which lose their border: the first version of a
published four-data-set script.

Skips are cut to the middle that is left on the way up. Trained with accumulated gradients, a rate
that falls on a plateau, and early stopping, in mixed precision and in fp32. Its author reports a
pixel accuracy (train/dev/test) of 90.5/90.5/90.6 % mixed and 90.6/90.6/90.7 % in fp32.

Otherwise here, and why: before the net each picture gets the border that it will lose, from its own
mirror image, so that all of it is predicted; cars, not pictures, are split 70/15/15; plateau and
early stopping watch validation, not training; every step uses exactly its own micro-batches. The
size, rate and steps are ours, as the author gives none.

Mixed precision and fp32 side by side: add precision=fp32. Data: as for recipes/carvana.py.
"""

dataset = "carvana"
image_size = (160, 240)
training_scale = 1.0
num_workers = 2

architecture = "unet"
features = (64, 128, 256, 512)
dropout = 0.0
padded = False

batch_size = 8
accum_steps = 4
training_iterations = 10 * 3552 // 32  # at most 10 epochs
loss = "ce"
optimizer = "adamw"
lr_schedule = "plateau"
plateau_patience = 2
patience = 4
base_lr = 3e-4
min_lr = 3e-6
warmup_steps = 50
weight_decay = 0.0
augment = ""

eval_interval = 3552 // 32
eval_iterations = 0
save_model_interval = 3552 // 32
