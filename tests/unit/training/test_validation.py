"""One pass over the validation images: what it counts, and that ranks count the same."""

import dataclasses
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from cloudseg.errors import DatasetError
from cloudseg.postprocess import Cut
from cloudseg.training.distributed import SINGLE, ProcessGroup, run_together
from cloudseg.training.validation import Validated, validate

CUT = Cut.of_share(0.5, 0.05, (8, 12))


@dataclasses.dataclass
class Told:
    """A trainer whose network was told what to say; its loss is the mean logit."""

    classes: int = 3
    eval_model: torch.nn.Module = dataclasses.field(default_factory=torch.nn.Identity)

    def eval_step(self, logits, target):
        return logits.mean(), logits, target


def planes(images=7, empty=False):
    rng = np.random.default_rng(0)
    target = np.kron(rng.integers(0, 2, (images, 3, 2, 3)), np.ones((4, 4)))
    target[0], target[1:, 2] = 0, 0
    target[-1, 2, 0, 0] = 1  # one pixel is truth, too
    logits = 4 * target - 2 + 1.5 * rng.normal(size=target.shape)
    logits[1:2, 2] = logits[0, :2] = -5
    return torch.from_numpy(logits).float(), torch.from_numpy(target * (not empty)).float()


def data(rows=slice(None), **options):
    logits, target = planes(**options)
    batches = [*zip(logits[rows].split(2), target[rows].split(2), strict=True)] if len(logits[rows]) else []
    return SimpleNamespace(valid=batches, valid_rows=rows, n_valid=len(logits), cut=CUT)


def dice_by_hand(logits, target):
    """Of every plane, with a mask that is in from a probability of one half on and has no component below the cut."""
    inside = (1 / (1 + np.exp(-logits)) >= CUT.level / 255).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=8)
    kept = [label for label in range(1, len(stats)) if stats[label, cv2.CC_STAT_AREA] >= CUT.min_size]
    mask, truth = np.isin(labels, kept), target > 0
    return 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) if mask.any() or truth.any() else 1.0


def expected():
    logits, target = (each.numpy() for each in planes())
    dice = [dice_by_hand(logits[place], target[place]) for place in np.ndindex(target.shape[:2])]
    return logits.mean(), np.reshape(dice, target.shape[:2]), (target > 0).any((2, 3))


def test_the_dice_of_planes_with_truth_is_the_mean_over_these_planes():
    loss, dice, truth = expected()
    found = validate(Told(), data(), SINGLE, "dice_nonempty")
    assert found.loss == pytest.approx(loss, abs=1e-6)
    assert found.dice == pytest.approx(dice.mean(axis=0), abs=1e-6)
    assert found.dice_nonempty == pytest.approx(dice[truth].mean(), abs=1e-6)
    of_classes = [dice[truth[:, c], c].mean() for c in range(3)]
    assert found.dice_nonempty != pytest.approx(np.mean(of_classes), abs=1e-3)  # a rare class counts by its planes


@pytest.mark.parametrize("best_by", ["dice", "loss"])
def test_it_is_counted_for_those_alone_who_ask(best_by, monkeypatch):
    calls = []
    gather_rows = ProcessGroup.gather_rows
    monkeypatch.setattr(ProcessGroup, "gather_rows", lambda *given: calls.append(0) or gather_rows(*given))
    asked, found = validate(Told(), data(), SINGLE, "dice_nonempty"), validate(Told(), data(), SINGLE, best_by)
    assert found.dice_nonempty is None
    assert (found.loss, found.dice.tolist()) == (asked.loss, asked.dice.tolist())
    assert len(calls) == 3


def test_images_without_any_mask_cannot_say_which_epoch_is_best():
    with pytest.raises(DatasetError, match="expected a mask in at least one of the 7 validation images, got none"):
        validate(Told(), data(empty=True), SINGLE, "dice_nonempty")
    assert validate(Told(), data(empty=True), SINGLE, "dice").dice_nonempty is None


def validate_together(folder, group):
    rows = slice(group.rank, None, group.size)
    found = [validate(Told(), data(rows, images=images), group, "dice_nonempty") for images in MANY_AND_ONE]
    torch.save([tuple(each) for each in found], folder / f"{group.rank}.pt")


MANY_AND_ONE = (7, 1)  # of one image the second rank has none


def test_ranks_count_as_one_process_does(tmp_path):
    run_together(validate_together, 2, torch.device("cpu"), folder=tmp_path)
    wanted = [validate(Told(), data(images=images), SINGLE, "dice_nonempty") for images in MANY_AND_ONE]
    for rank in range(2):
        found = [Validated(*each) for each in torch.load(tmp_path / f"{rank}.pt", weights_only=False)]
        assert [each.loss for each in found] == pytest.approx([each.loss for each in wanted], abs=1e-6)
        assert [each.dice.tolist() for each in found] == [each.dice.tolist() for each in wanted]
        assert [each.dice_nonempty for each in found] == [each.dice_nonempty for each in wanted]
