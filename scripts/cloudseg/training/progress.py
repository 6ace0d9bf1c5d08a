"""How far a training has come: its epochs, the best of them, and whether it is done."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from cloudseg.config.recipe import Recipe
from cloudseg.errors import ConfigError
from cloudseg.runtime import job_progress
from cloudseg.training.schedules import SCHEDULES, reductions, warmup_steps


class Progress:
    """The epochs of a training so far.

    Parameters
    ----------
    recipe : by which the network is trained.
    classes : names, for the columns of the history.
    batches : batches of an epoch.

    Attributes
    ----------
    history : a row of the table for each epoch.
    best_epoch : from 1; 0 before the first.
    best_network : its weights, on the CPU.
    resumed : after which epoch, of how many, earlier processes stopped.
    """

    def __init__(self, recipe: Recipe, classes: list[str], batches: int) -> None:
        self._recipe, self._classes, self._batches = recipe, classes, batches
        self.history: list[dict[str, Any]] = []
        self._values: list[float] = []  # of each epoch, by `best_by`; more is better
        self.best_epoch, self._best_value = 0, -math.inf
        self.best_network: dict[str, torch.Tensor] = {}
        self.resumed: list[dict[str, int]] = []

    @property
    def epoch(self) -> int:
        """The epochs that are done."""
        return len(self.history)

    @property
    def finished(self) -> bool:
        """Whether there is no further epoch to train."""
        return self.epoch >= self._recipe.epochs or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """Whether as many epochs as `patience` says were no better than the best."""
        return bool(self._recipe.patience) and self.epoch - self.best_epoch >= self._recipe.patience

    @property
    def improved(self) -> bool:
        """Whether the last epoch is the best."""
        return self.best_epoch == self.epoch

    def learning_rate(self, batch: int) -> float:
        """Return the learning rate of a batch, from 0, of the epoch that comes; each stage begins its schedule anew."""
        recipe, begun = self._recipe.stage_at(self.epoch + 1), self._recipe.stage_start(self.epoch + 1)
        peak = recipe.learning_rate
        if recipe.schedule == "plateau":
            peak *= recipe.plateau_factor ** reductions(self._values[begun:], recipe.plateau_patience)
        step, steps = (self.epoch - begun) * self._batches + batch, recipe.epochs * self._batches
        return peak * SCHEDULES[recipe.schedule](step, steps, warmup_steps(recipe, self._batches))

    def add(
        self,
        network: nn.Module,
        *,
        learning_rate: float,
        train_loss: float,
        valid_loss: float,
        dice: np.ndarray,
        seconds: float,
    ) -> None:
        """Add an epoch; keep a copy of the network's weights if none was better.

        Parameters
        ----------
        learning_rate : of the last step.
        dice : (classes,), means over the validation images.
        """
        epoch = self.epoch + 1
        self.history.append(
            {
                "epoch": epoch,
                "learning_rate": float(f"{learning_rate:.6g}"),
                "train_loss": round(train_loss, 6),
                "valid_loss": round(valid_loss, 6),
                "valid_dice": round(float(dice.mean()), 6),
                **{f"dice_{name}": round(float(value), 6) for name, value in zip(self._classes, dice, strict=True)},
                "seconds": round(seconds, 2),
            }
        )
        self._values.append(float(dice.mean()) if self._recipe.best_by == "dice" else -valid_loss)
        if self._values[-1] > self._best_value:
            self.best_epoch, self._best_value = epoch, self._values[-1]
            self.best_network = {
                key: value.detach().to("cpu", copy=True) for key, value in network.state_dict().items()
            }

    def line(self) -> str:
        """Return the last epoch as a line of the log."""
        return (
            "epoch {epoch}/{epochs}: learning rate {learning_rate:.2g}, loss {train_loss:.4f} train "
            "{valid_loss:.4f} valid, Dice {valid_dice:.4f}, {seconds:.1f} s{best}".format(
                **self.history[-1], epochs=self._recipe.epochs, best=" (best)" if self.improved else ""
            )
        )

    def report(self, part: float = 0.0, **facts: float) -> None:
        """Tell whoever watches the job how far the training is.

        Parameters
        ----------
        part : of the epoch that is trained, from 0 to 1.
        facts : of the last epoch, beside its Dice and its losses.
        """
        if self.history:
            last, best = self.history[-1], self.history[self.best_epoch - 1]
            facts |= {"dice": last["valid_dice"], "best_dice": best["valid_dice"], "best_epoch": self.best_epoch}
            facts |= {"loss": last["train_loss"], "valid_loss": last["valid_loss"]}
        job_progress.report(self.epoch + part, self._recipe.epochs, "epochs", **facts)

    def when_stopped(self) -> str:
        """Return what becomes of a training that is stopped now."""
        return f"stopped in epoch {self.epoch + 1}; the next run goes on after epoch {self.epoch}"

    def state_dict(self) -> dict[str, Any]:
        """Return all but the best weights, which a state keeps apart since they need no copy."""
        return {
            "epochs": self._recipe.epochs,
            "history": self.history,
            "values": self._values,
            "best": {"epoch": self.best_epoch, "value": self._best_value},
            "resumed": self.resumed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state, with its best weights."""
        self.history, self._values = state["history"], state["values"]
        self.best_epoch, self._best_value = state["best"]["epoch"], state["best"]["value"]
        self.best_network = state["best_network"]
        self.resumed = [*state["resumed"], {"after": self.epoch, "of": state["epochs"]}]

    def require_finite(self, loss: float, which: str) -> float:
        """Return a loss of the epoch that is trained.

        Raises
        ------
        ConfigError : if it is not finite, with what to lower.
        """
        if not math.isfinite(loss):
            recipe = self._recipe
            raise ConfigError(
                f"the {which} loss became {loss} in epoch {self.epoch + 1}; lower `learning_rate` (now "
                f"{recipe.learning_rate:g}) or `clip` (now {recipe.clip:g}), lengthen `warmup` (now "
                f"{recipe.warmup:g}), or set `precision: float32` (now {recipe.precision})"
            )
        return loss
