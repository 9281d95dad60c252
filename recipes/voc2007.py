"""Pascal VOC 2007, 20 kinds of things and background: a setting of a published four-data-set
script.

Trained with accumulated gradients, a rate that falls on a plateau, and early stopping. Its author
reports a pixel accuracy of 73.0/73.6/74.3 % (train/dev/test), which is about the share of
background, and an output that was almost all background under cross entropy; focal loss and Dice
were tried against it.

Otherwise here, and why: 255, the unsure border of things, is ignored in loss and score, not called
background; the owners' lists are used, train (209), val (213) and test (210; its archive apart);
nothing is augmented but training pictures; plateau and early stopping watch validation; beside
pixel accuracy stands each class's IoU and what always answering "background" would get; focal loss
is helped by class weights. The size, rate and steps are ours, as the author gives none.

Where Dataset/voc2007 (or data_dir) holds no VOCdevkit/VOC2007, torchvision downloads it:

    python train.py recipes/voc2007.py
"""

dataset = "voc2007"
image_size = (192, 256)
training_scale = 1.0

architecture = "unet"
features = (64, 128, 256, 512)
dropout = 0.1

batch_size = 8
accum_steps = 2
training_iterations = 200 * 209 // 16  # at most 200 epochs
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

eval_interval = 2 * 209 // 16
eval_iterations = 0
save_model_interval = 2 * 209 // 16
