"""What a training tells those who watch it: numbers alone, so that its progress file can be read."""

import math
import time

import numpy as np
import pytest
from torch import nn

from cloudseg.config.recipe import Recipe
from cloudseg.runtime.job_progress import read_progress, reporting
from cloudseg.training.progress import Progress
from cloudseg.training.validation import Validated


@pytest.mark.parametrize("valid_loss", [0.5, math.nan])
def test_a_training_without_a_dice_is_watched_all_the_same(tmp_path, valid_loss):
    progress = Progress(Recipe(epochs=3, best_by="loss"), ["Fish"], 1)
    valid = Validated(valid_loss, np.array([math.nan]), None)
    progress.add(nn.Linear(1, 1), learning_rate=0.1, train_loss=0.7, valid=valid, seconds=1.0)
    with reporting(tmp_path / "train.log"):
        progress.report(images_per_second=9.0)
        until = time.monotonic() + 60
        while (told := read_progress(tmp_path / "train.progress.json")) is None or not told.facts:
            assert time.monotonic() < until, "the progress file cannot be read"
            time.sleep(0.05)
    known = {} if math.isnan(valid_loss) else {"valid_loss": valid_loss}
    assert told.facts == {"loss": 0.7, "best_epoch": 1, "images_per_second": 9.0, **known}
    assert told.done == 1
