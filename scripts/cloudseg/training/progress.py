"""How far a training has come: its epochs, the best of them, and whether it is done."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from cloudseg.config.recipe import Recipe
from cloudseg.errors import ConfigError
from cloudseg.runtime import job_progress
from cloudseg.training.average import average_of_epochs
from cloudseg.training.schedules import SCHEDULES, reductions, warmup_steps
from cloudseg.training.validation import Validated


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
    average : what gathers the networks of the epochs that are averaged; None where the recipe averages none.
    resumed : after which epoch, of how many, earlier processes stopped.
    """

    def __init__(self, recipe: Recipe, classes: list[str], batches: int) -> None:
        self._recipe, self._classes, self._batches = recipe, classes, batches
        self.history: list[dict[str, Any]] = []
        self._values: list[float] = []  # of each epoch, by `best_by`; more is better
        self.best_epoch, self._best_value = 0, -math.inf
        self.best_network: dict[str, torch.Tensor] = {}
        self.average = average_of_epochs(recipe.average, recipe.epochs) if recipe.average else None
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
        valid: Validated,
        seconds: float,
    ) -> None:
        """Add an epoch; keep a copy of the network's weights if none was better, or if they are averaged.

        Parameters
        ----------
        learning_rate : of the last step.
        valid : of the validation images.
        """
        epoch, value = self.epoch + 1, self._value(valid)
        improved = value > self._best_value
        if improved or self.average:
            kept = {key: tensor.detach().to("cpu", copy=True) for key, tensor in network.state_dict().items()}
        if improved:
            self.best_epoch, self._best_value, self.best_network = epoch, value, kept
        if self.average:
            self.average.add(epoch, value, kept)
        self._values.append(value)
        self.history.append(
            {
                "epoch": epoch,
                "learning_rate": float(f"{learning_rate:.6g}"),
                "train_loss": round(train_loss, 6),
                "valid_loss": round(valid.loss, 6),
                **self.dice_columns(valid),
                "seconds": round(seconds, 2),
            }
        )

    def dice_columns(self, valid: Validated) -> dict[str, float]:
        """Return the columns of a history that say how well masks fit."""
        dice = {"valid_dice": float(valid.dice.mean())}
        if valid.dice_nonempty is not None:
            dice["valid_dice_nonempty"] = valid.dice_nonempty
        dice |= {f"dice_{name}": float(value) for name, value in zip(self._classes, valid.dice, strict=True)}
        return {name: round(value, 6) for name, value in dice.items()}

    def _value(self, valid: Validated) -> float:
        """Return what an epoch is worth by the recipe; more is better."""
        if math.isnan(valid.loss):  # where nothing validates, a later epoch is a better one
            return self.epoch + 1.0
        values = {"dice": float(valid.dice.mean()), "loss": -valid.loss, "dice_nonempty": valid.dice_nonempty}
        return values[self._recipe.best_by]

    def line(self) -> str:
        """Return the last epoch as a line of the log."""
        last = self.history[-1]
        text = "epoch {epoch}/{epochs}: learning rate {learning_rate:.2g}, loss {train_loss:.4f} train"
        text += " {valid_loss:.4f} valid" * math.isfinite(last["valid_loss"])
        text += ", Dice {valid_dice:.4f}" * math.isfinite(last["valid_dice"])
        best = " (best)" if self.improved and math.isfinite(last["valid_loss"]) else ""
        return text.format(**last, epochs=self._recipe.epochs) + f", {last['seconds']:.1f} s{best}"

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
        # A network without masks has no Dice, and one on all images nothing to validate on
        known = {name: value for name, value in facts.items() if math.isfinite(value)}
        job_progress.report(self.epoch + part, self._recipe.epochs, "epochs", **known)

    def when_stopped(self) -> str:
        """Return what becomes of a training that is stopped now."""
        if self.finished:
            return f"stopped after the last epoch, {self.epoch}; the next run goes on from there"
        return f"stopped in epoch {self.epoch + 1}; the next run goes on after epoch {self.epoch}"

    def state_dict(self) -> dict[str, Any]:
        """Return all but :meth:`networks`."""
        recipe = self._recipe
        return {
            "epochs": recipe.epochs,
            **({"stages": recipe.canonical("stages")["stages"]} if recipe.stages else {}),
            "history": self.history,
            "values": self._values,
            "best": {"epoch": self.best_epoch, "value": self._best_value},
            "resumed": self.resumed,
        }

    def networks(self) -> dict[str, Any]:
        """Return the weights of earlier epochs that a state holds; nobody will change them, so they need no copy."""
        return {"best_network": self.best_network} | ({"averaged": self.average.state_dict()} if self.average else {})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state, with its networks."""
        self.history, self._values = state["history"], state["values"]
        self.best_epoch, self._best_value = state["best"]["epoch"], state["best"]["value"]
        self.best_network = state["best_network"]
        if self.average:
            self.average.load_state_dict(state["averaged"])
        self.resumed = [*state["resumed"], {"after": self.epoch, "of": state["epochs"]}]

    def require_finite(self, loss: float, which: str) -> float:
        """Return a loss of the epoch that is trained.

        Raises
        ------
        ConfigError : if it is not finite, with what to lower.
        """
        if not math.isfinite(loss):
            recipe = self._recipe.stage_at(self.epoch + 1)
            raise ConfigError(
                f"the {which} loss became {loss} in epoch {self.epoch + 1}; lower `learning_rate` (now "
                f"{recipe.learning_rate:g}) or `clip` (now {recipe.clip:g}), lengthen `warmup` (now "
                f"{recipe.warmup:g}), or set `precision: float32` (now {recipe.precision})"
            )
        return loss
