"""Cityscapes at 256×128 with all 34 label ids, and how sure the net is: the UNet++ with learnt
halving and repeated pixels of a published comparison.

Each block is convolution, batch norm, dropout 0.2 and leaky ReLU, then the same with dropout 0.5; a
convolution of stride 2 halves, nearest neighbour and a 1×1 convolution double. Its authors report
about 60 epochs until it converges (the plain net of recipes/unet_strided.py: over 100), overfitting
after about 20; equal validation accuracy.

Otherwise here, and why: void, ids 0 to 6, is ignored in loss and score, not learnt as a class;
logits go to cross entropy as they are (after a sigmoid, 34 classes can't get below a loss of 2.58);
nothing is squeezed to 3 channels before the 34 outputs; training scores are taken with dropout at
rest, as validation scores are. Rate and batch are ours.

Lay leftImg8bit/ and gtFine/ (labelIds) into Dataset/cityscapes, or name their folder:

    python train.py recipes/unetpp.py data_dir=PATH

Then python inference.py uncertainty_passes=20 draws what the net is unsure of.
"""

dataset = "cityscapes34"
image_size = (128, 256)
training_scale = 1.0

architecture = "unet++"
features = (64, 128, 256, 512)
dropout = (0.2, 0.5)
activation = "leaky_relu"
down = "conv"
up = "nearest"

batch_size = 16
accum_steps = 1
training_iterations = 60 * 2975 // 16  # 60 epochs
loss = "ce"
optimizer = "adamw"
lr_schedule = "cosine"
base_lr = 1e-3
min_lr = 1e-5
warmup_steps = 200
weight_decay = 0.01
augment = "flip"

eval_interval = 2975 // 16
eval_iterations = 0
save_model_interval = 2975 // 16
