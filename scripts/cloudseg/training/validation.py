"""One pass over the validation images."""

import numpy as np
import torch

from cloudseg.training.data.fold import FoldData
from cloudseg.training.distributed import ProcessGroup
from cloudseg.training.metrics import dice_per_class
from cloudseg.training.trainer import Trainer


def validate(trainer: Trainer, data: FoldData, group: ProcessGroup) -> tuple[float, np.ndarray]:
    """Return the mean loss of the validation images and their mean Dice per class, (classes,).

    Each process looks at its share of the images; all get the same numbers. The Dice is a signal for training, not a
    score: by the decision of the recipe, at training size, from one view, 1 for a class absent from both mask and
    prediction; mean over images. The loss is over batches of as many images as a device sees at once.
    """
    trainer.eval_model.eval()
    total = torch.zeros((), dtype=torch.float64)
    dice = [torch.zeros(0, trainer.classes, dtype=torch.float64)]  # a process may have no image
    for image, mask in data.valid:
        loss, logits, target = trainer.eval_step(image, mask)
        total += loss.item() * len(image)
        dice.append(dice_per_class(logits, target, data.cut))
    all_dice = group.gather_rows(torch.cat(dice), data.valid_rows, data.n_valid).cpu().numpy()
    return group.sum(total).item() / data.n_valid, all_dice.mean(axis=0)
