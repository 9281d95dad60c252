"""Pascal VOC 2012, 20 kinds of things and background: a setting of a published four-data-set
script.

Trained with accumulated gradients, a rate that falls on a plateau, and early stopping. Its author
reports no figure for this year; on VOC 2007 the output was almost all background under cross
entropy, and focal loss and Dice were tried against it.

Otherwise here, and why: 255, the unsure border of things, is ignored in loss and score, not called
background; the owners' lists are used, train (1,464) and val (1,449); nothing is augmented but
training pictures; plateau and early stopping watch validation; beside pixel accuracy stands each
class's IoU and what always answering "background" would get; focal loss is helped by class weights.
The size, rate and steps are ours, as the author gives none.

Where Dataset/voc2012 (or data_dir) holds no VOCdevkit/VOC2012, torchvision downloads it:

    python train.py recipes/voc2012.py
"""

dataset = "voc2012"
image_size = (192, 256)
training_scale = 1.0

architecture = "unet"
features = (64, 128, 256, 512)
dropout = 0.1

batch_size = 8
accum_steps = 2
training_iterations = 100 * 1464 // 16  # at most 100 epochs
loss = "focal"
optimizer = "adamw"
focal_gamma = 2.0
class_weights = 0.5
lr_schedule = "plateau"
plateau_patience = 5
patience = 15
base_lr = 5e-4
min_lr = 5e-6
warmup_steps = 100
weight_decay = 0.01

eval_interval = 2 * 1464 // 16
eval_iterations = 0
save_model_interval = 2 * 1464 // 16
