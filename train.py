"""Train a U-Net: edit the constants, then `python train.py`.

One step is accum_steps micro-batches of batch_size pictures, then one update of the weights. Now
and then the run is judged on training and validation pictures. The best weights by validation are
kept, and at the end judged on every split.

    python train.py [recipes/NAME.py] [name=value …]     a recipe, or name=value, for one run
    python train.py … resume=true                        the newest run goes on where it stopped
    torchrun --standalone --nproc_per_node=N train.py …  N processes, with batch_size pictures each

A run's files are in TrainingOutput/<dataset>-<date>-<time>; its best weights are unet_model.pth
too, which inference.py takes.
"""

import copy
import sys
from collections.abc import Iterator
from itertools import chain

from toolbox import folding, reports, settings
from toolbox.earlier import find_run
from toolbox.errors import memory_explained
from toolbox.keeping import Run
from toolbox.machine import Machinery, Place, follow, signals_caught
from toolbox.muon import make_optimizer
from toolbox.prepared import overview
from toolbox.processes import (  # for several processes; in one, only seed_dropout has an effect
    add_up,
    agree,
    from_first,
    is_first,
    join_processes,
    joined,
    once_a_machine,
    own,
    own_part,
    seed_dropout,
    share_buffers,
)
from toolbox.tiles import classes_at, whole_logits
from toolbox.watch import judging

import torch
from torch import Tensor

from dataset import (
    Data,
    SegmentationDataset,
    make_augment,
    ordered_batches,
    prepare,
    training_batches,
)
from model import UNet, build_model
from utils import ConfusionMatrix, Loss, learning_rate, make_loss

# those that most people change
dataset = "streets"  # or camvid, cityscapes, carvana, voc2012, …, or a folder of your own
data_dir = "Dataset"  # where named data sets lie, in a folder of their name
image_size = (80, 128)  # (height, width) to resize to; twice the sides is four times the work
features = (16, 32, 64)  # channels of each level; the paper's 64, 128, 256, 512: 20 times the work
batch_size = 4  # pictures in a micro-batch; what memory allows
accum_steps = 1  # micro-batches to a step; raise it where batch_size must be small
training_iterations = 1680  # steps; images seen = steps * accum_steps * batch_size
base_lr = 1e-2  # learning rate after the warm-up
loss = "ce+dice"  # ce: pixels alike; dice: classes alike; or focal, tversky, lovasz; or a sum
augment = "zoom+flip+color+grey"  # how copies may differ; also vflip, rotate; "" = not at all
dropout = (0.0, 0.0)  # share of a block's activations dropped in training, after either convolution
seed = 0  # split, start, order, augmentation and dropout all follow from it

# data
cache = True  # keep resized pictures in Dataset/cache; False decodes every file every time
num_workers = -1  # processes that read beside the net; -1: cores less one on a GPU, none on a CPU
training_scale = (0.5, 0.75, 1.0)  # of image_size's sides, a third of the steps each; or one number
crop_size = (0, 0)  # train on windows of this size, cut out of image_size; (0, 0): on all of it
mix = 0.0  # 0.5: every second picture gets a part of another one pasted in; for long runs
augment_strength = 1.0  # how far zoom and colour go; 2 where training pictures are learnt by heart

# model
architecture = "unet"  # or unet++, whose skips are nets of their own: two to three times the work
bias = True  # of the convolutions; batch norm has its own, so that False loses nothing
activation = "relu"  # or leaky_relu
patch = 1  # side of the squares of pixels taken as one: 2 does a fourth of the work on a picture
padded = True  # False: the paper's convolutions, which lose a border; one is mirrored on before
down = "pool"  # halve by the largest of four pixels, or by a learnt convolution: conv
up = "transposed"  # double by a learnt 2×2 patch, or by repeating pixels: nearest
deep_supervision = False  # unet++ only: train an output on each of its depths

# optimisation
class_weights = 0.0  # ce, focal: a pixel counts share ** -this; 0: pixels alike, 1: classes alike
focal_gamma = 2.0  # focal: how much less a pixel counts that is right already
tversky_beta = 0.7  # tversky: weight of a missed pixel; one wrongly found has the rest to 1
optimizer = "muon"  # or adamw, which takes the same rates and two to three times as many steps
lr_schedule = "sqrt"  # or cosine, or plateau: to a tenth where validation stands still
min_lr = 1e-4  # the learning rate is never below this
warmup_steps = 50  # steps of quadratic rise: the optimizer's averages are rough at first
decay_factor = 0.0  # sqrt: 0 = down to min_lr at the last step; else see utils.learning_rate
plateau_patience = 5  # plateau: evaluations without a lower validation loss before the rate falls
weight_decay = 0.1  # times the rate: share of a weight taken off in a step; short runs: 0.01
grad_clip = 1.0  # longer gradients are shortened to this; 0 = never
ema_decay = 0.0  # 0.99, say: a running average of the weights is what is judged and kept

# judging
folds = 0  # 5: five nets, each judged on the fifth of the pictures that it has not seen
eval_interval = 200  # steps between evaluations
eval_iterations = 16  # batches of train and of val per evaluation; 0 = all
patience = 0  # evaluations without a better validation mean IoU before the run ends; 0 = never
save_model_interval = 200  # steps between saves of last.pth, best.pth and curves.png

# machine
device = "auto"  # auto, cpu, cuda, cuda:1, mps
precision = "auto"  # fp32, bf16, fp16; auto: bf16 where the chip has it, else fp16 on GPUs
compile_model = True  # torch.compile where it pays, on GPUs: a minute for each training size
run_dir = ""  # where the run's files go; "" = TrainingOutput/<dataset>-<date>-<time>
resume = ""  # true: go on with the newest run; or a run's folder, or its last.pth


def constants() -> dict:
    return settings.settings_of(globals())


def augmentations() -> list:
    return [make_augment(*one) for one in settings.augmentations_of(constants())]


def check_settings() -> None:
    """Settings that are wrong whatever the data are said before anything is read."""
    settings.check(constants())
    with torch.device("meta"):  # the model's own checks, without its memory
        build_model(**settings.model_arguments(constants(), num_classes=2))
    make_loss(loss)  # these two raise on a name that does not exist
    augmentations()


class Training(Run):
    """The net and how it learns. What it does not hold here is the toolbox's: keeping.py has a run
    on the disk, progress.py its steps, rates, scores and time."""

    def __init__(self, data: Data, place: Place):
        super().__init__(constants(), data, place)
        torch.manual_seed(seed)
        self.arguments = settings.model_arguments(constants(), len(data.table.names))
        self.model = place.settle(build_model(**self.arguments))
        self.kept = self.model  # the net that is evaluated and kept
        if ema_decay:
            self.kept = copy.deepcopy(self.model)
        self.optimizer = make_optimizer(optimizer, self.model, base_lr, weight_decay)
        self.machine = Machinery(self.model, self.optimizer, place, compile_model)
        weights = None
        if class_weights:
            weights = data.class_weights(class_weights).to(place.device)
        self.loss_of = make_loss(loss, weights, focal_gamma, tversky_beta)
        self.splits = {name: SegmentationDataset(data, name) for name in data.splits}
        turn = self.images_per_scale()
        self.stream = SegmentationDataset(data, "train", augmentations(), seed, mix, turn)

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, given the evaluations so far."""
        return learning_rate(
            step,
            base_lr,
            min_lr,
            warmup_steps,
            decay_factor,
            lr_schedule,
            training_iterations,
            falls=self.plateaus(),
        )

    def take_step(self, batches: Iterator) -> float:
        """accum_steps micro-batches, then one update of the weights; returns their mean loss.

        The gradients of micro-batches add up to that of one batch of them all, but for dropout's
        draws and for batch norm, which sees one micro-batch at a time.
        """
        step = self.step + 1
        rate = self.rate_at(step)
        self.machine.set_rate(rate)
        seed_dropout(seed, step)
        self.model.train()
        total = 0.0
        for part in range(accum_steps):
            batch = self.clock.wait_for(batches)
            images, masks = self.place.put(batch, self.machine.layout)
            logits = self.machine.logits(images, is_last=part == accum_steps - 1)
            part_loss = self.loss_of(logits, masks) / accum_steps
            self.machine.backward(part_loss)
            total += part_loss.detach()
        norm = self.machine.clip(grad_clip)
        loss_value = self.checked_loss(rate, total, norm)
        self.machine.update()
        self.note_step(step, rate, loss_value)
        if ema_decay:
            follow(self.kept, self.model, ema_decay, step)
        return loss_value

    def evaluate(self) -> str:
        """Judge the weights on a part of either split; a line says how it went."""
        share_buffers(self.kept)  # batch norm's averages: the first process's
        scores = {}
        for name in ("train", "val"):
            split = self.splits[name]
            scores[name] = quick_scores(self.kept, split, self.loss_of, self.place)
        return self.write_down(scores)


@torch.no_grad()
def predictions(
    model: UNet, split: SegmentationDataset, place: Place, batches: int = 0
) -> Iterator[tuple[Tensor, Tensor]]:
    """Logits and masks of a split, batch by batch, as it is and with dropout at rest."""
    model.eval()
    for batch in ordered_batches(split, batch_size, batches, *own_part()):
        images, masks = place.put(batch)
        yield whole_logits(model, images, place), masks


def quick_scores(
    model: UNet,
    split: SegmentationDataset,
    loss_of: Loss,
    place: Place,
) -> dict:
    """Loss and scores on eval_iterations batches, at image_size."""
    matrix = ConfusionMatrix(model.num_classes, place.device)
    losses = torch.zeros((), device=place.device)
    count = torch.zeros((), device=place.device)
    for logits, masks in predictions(model, split, place, eval_iterations):
        losses += loss_of(logits, masks) * len(masks)
        count += len(masks)
        matrix.update(logits.argmax(1), masks)
    add_up(matrix.counts, losses, count)
    scores = matrix.scores()
    scores["loss"] = (losses / count).item()
    return scores


def judge(model: UNet, split: SegmentationDataset, place: Place) -> reports.Result:
    """A whole split, and each of its pictures, at its mask's own size, as published results are:
    the logits are enlarged to it before they are compared."""
    matrix = ConfusionMatrix(model.num_classes, place.device)
    each = []
    batches = judging(predictions(model, split, place), len(split))  # their logits, under a bar
    pictures = chain.from_iterable(batch.split(1) for batch in batches)
    for logits, i in zip(pictures, own(range(len(split)))):  # in the order of ordered_batches
        mask = split.full_mask(i).to(place.device)
        preds = classes_at(logits, *mask.shape)  # enlarged, then the highest
        alone = ConfusionMatrix(model.num_classes, place.device)
        alone.update(preds, mask)
        matrix.counts += alone.counts
        each.append((i, alone.scores()))
    add_up(matrix.counts)
    return reports.Result(matrix.counts, matrix.scores(), joined(each))


def learn(training: Training) -> int:
    """The loop, to the run's end, or to a signal, whose number it returns."""
    batches = training_batches(
        training.stream,
        batch_size,
        training.images_seen(),
        training.place.workers(num_workers),
        *own_part(),
    )
    with signals_caught() as caught, training.going_on(batches) as bar:
        training.catch_up(bar)
        stop = agree(max(caught, default=0))
        while not stop and not training.is_over():
            with training.clock.add_to("training_seconds"):
                training.take_step(batches)
            training.show_step(bar)
            stop = agree(max(caught, default=0))
            if training.is_due() and not stop:
                bar.write(training.evaluate())
            training.warn(bar)
            if training.is_time_to_save() or stop:
                training.save()
    return stop


def finish(training: Training) -> None:
    """With the best weights: every split judged, and all that is left of the run."""
    training.load_best()
    results = {}
    for name, split in training.splits.items():
        results[name] = judge(training.kept, split, training.place)
    if is_first():
        reports.close(training, results)


def run_all(place: Place) -> int:
    """Data, net, loop, report: a whole run, or what is left of it; each fold is one too."""
    earlier = from_first(lambda: find_run(run_dir, resume))
    wanted = (dataset, data_dir, image_size, cache, seed, folds)
    data = once_a_machine(lambda: prepare(*wanted))
    print(overview(data))
    for chosen, folder in folding.in_folds(data, constants(), earlier, ConfusionMatrix):
        training = Training(chosen, place)
        with training.begun(folder):
            number = learn(training)
            if number:
                print(training.stopped_line(sys.argv[1:]))
                return 128 + number
            finish(training)
        print(training.closing_line())
    return 0


def main() -> int:
    check_settings()
    place = Place(device, precision)
    with memory_explained(str(place), constants()):
        join_processes(place.device)
        return run_all(place)


if __name__ == "__main__":
    settings.run_script(globals(), main)
