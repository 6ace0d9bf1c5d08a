"""One pass over the validation images."""

import math
from collections import deque
from typing import NamedTuple

import numpy as np
import torch

from cloudseg.errors import DatasetError
from cloudseg.training.data.fold import FoldData
from cloudseg.training.distributed import ProcessGroup
from cloudseg.training.losses import holds_truth
from cloudseg.training.metrics import PendingDice
from cloudseg.training.trainer import Trainer


class Validated(NamedTuple):
    """What a pass over the validation images found."""

    loss: float
    """Mean over the images; NaN, as the Dice, where none validate."""
    dice: np.ndarray
    """(classes,), of each class the mean over the images; 1 for one absent from both mask and prediction, NaN where a
    network gives no masks."""
    dice_nonempty: float | None
    """Mean over the planes, of all images and classes, that hold truth; None where ``best_by`` does not ask for it."""


def validate(trainer: Trainer, data: FoldData, group: ProcessGroup, best_by: str = "dice") -> Validated:
    """Return the mean loss and Dice of the validation images.

    Each process looks at its share of the images; all get the same numbers. The Dice is a signal for training, not a
    score: by the decision of the recipe, at training size, from one view. The loss is over batches of as many images as
    a device sees at once.

    Parameters
    ----------
    trainer : its ``eval_model`` is validated.
    data : what this process reads of the fold.
    group : this process's rank among those that train together.
    best_by : of the recipe; ``dice_nonempty`` has that counted, too.

    Raises
    ------
    DatasetError : if ``dice_nonempty`` is asked for and no validation image holds a mask.
    """
    if not data.n_valid:
        return Validated(math.nan, np.full(trainer.classes, math.nan), None)
    trainer.eval_model.eval()
    total = torch.zeros((), dtype=torch.float64, device=group.device)
    nothing = torch.zeros(0, trainer.classes, dtype=torch.float64)  # a process may have no image
    dice, truth = [nothing], [nothing]
    pending: deque[PendingDice] = deque()
    for image, mask in data.valid:
        loss, logits, target = trainer.eval_step(image, mask)
        total += loss.double() * len(image)  # on the device, which need not be waited for
        pending.append(PendingDice(logits, target, data.cut))
        if len(pending) > 1:  # it is counted while the device works on the next batch
            dice.append(pending.popleft().value())
        if best_by == "dice_nonempty":
            truth.append(holds_truth(target).double())
    dice += [each.value() for each in pending]

    def gather(rows: list[torch.Tensor]) -> np.ndarray:
        rows = [each.cpu() for each in rows]
        return group.gather_rows(torch.cat(rows), data.valid_rows, data.n_valid).cpu().numpy()

    all_dice = gather(dice)
    nonempty = _mean_of_nonempty(all_dice, gather(truth)) if best_by == "dice_nonempty" else None
    return Validated(group.sum(total).item() / data.n_valid, all_dice.mean(axis=0), nonempty)


def _mean_of_nonempty(dice: np.ndarray, truth: np.ndarray) -> float:
    if not truth.any():
        raise DatasetError(
            f"best_by: dice_nonempty: expected a mask in at least one of the {len(dice)} validation images, got none; "
            "set `best_by: loss`"
        )
    return float(dice[truth > 0].mean())
