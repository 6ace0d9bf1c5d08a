"""A network whose weights are a mean of those of some epochs: which take part, and the statistics of its norms."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from cloudseg.config.recipe_parts import Average
from cloudseg.training.data.dataset import sample_seed
from cloudseg.training.data.fold import FoldData
from cloudseg.training.distributed import ProcessGroup
from cloudseg.training.trainer import Trainer

Network = Mapping[str, torch.Tensor]


class RunningAverage:
    """A mean of networks that come one after the other; it holds one, however many there were.

    Parameters
    ----------
    decay : None weighs all alike; else average = decay * average + (1 - decay) * next.

    Attributes
    ----------
    epochs : those that the networks are of.
    network : the mean; empty before the first. What is no number, such as a count, is that of the last network.

    Examples
    --------
    >>> average = RunningAverage(decay=None)
    >>> for epoch, weight in enumerate((1.0, 2.0, 6.0), start=1):
    ...     average.add(epoch, {"weight": torch.tensor(weight)})
    >>> average.network["weight"]
    tensor(3.)
    """

    def __init__(self, decay: float | None) -> None:
        self._decay = decay
        self.epochs: list[int] = []
        self.network: Network = {}

    def add(self, epoch: int, network: Network) -> None:
        """Add the network of an epoch; the tensors of the mean before stay as they are."""
        self.epochs = [*self.epochs, epoch]
        if not self.network:
            self.network = network
            return
        share = 1 / len(self.epochs) if self._decay is None else 1 - self._decay
        self.network = {
            name: torch.lerp(self.network[name], value, share) if value.is_floating_point() else value
            for name, value in network.items()
        }


class LastEpochs:
    """The mean of the last epochs of a training whose number of epochs is known.

    Parameters
    ----------
    average : as the recipe has it.
    epochs : of the whole training.
    """

    def __init__(self, average: Average, epochs: int) -> None:
        self._first = epochs - average.epochs + 1
        self._mean = RunningAverage(average.decay)

    def add(self, epoch: int, value: float, network: Network) -> None:
        """Add the network of an epoch, which nobody will change."""
        if epoch >= self._first:
            self._mean.add(epoch, network)

    def mean(self) -> RunningAverage:
        """Return the mean."""
        return self._mean

    def why_not_resumed(self, state: Mapping[str, Any], done: int) -> str | None:
        """Return why a training that is to have another number of epochs cannot go on from a state of it."""
        if list(range(self._first, done + 1)) in ([], state["epochs"]):
            return None
        return "whose average is of other epochs; training from the beginning"

    def state_dict(self) -> dict[str, Any]:
        """Return what the mean at the end depends on; none of its tensors will be changed."""
        return {"epochs": self._mean.epochs, "network": self._mean.network}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state, but for what lies before the last epochs."""
        if state["epochs"] and state["epochs"][0] == self._first:
            self._mean.epochs, self._mean.network = state["epochs"], state["network"]


class BestEpochs:
    """The mean of the best epochs, in their order; it holds the networks of all of them.

    Parameters
    ----------
    average : as the recipe has it.

    Examples
    --------
    >>> best = BestEpochs(Average(epochs=2, of="best"))
    >>> for epoch, dice in enumerate((0.5, 0.7, 0.4, 0.5, 0.6), start=1):
    ...     best.add(epoch, dice, {"weight": torch.tensor(float(epoch))})
    >>> best.mean().epochs, best.mean().network["weight"]
    ([2, 5], tensor(3.5000))
    """

    def __init__(self, average: Average) -> None:
        self._count, self._decay = average.epochs, average.decay
        self._kept: list[tuple[int, float, Network]] = []

    def add(self, epoch: int, value: float, network: Network) -> None:
        """Add the network of an epoch, which nobody will change; of two that are as good, the earlier one stays."""
        candidates = [*self._kept, (epoch, value, network)]
        best = sorted(candidates, key=lambda kept: (-kept[1], kept[0]))[: self._count]
        self._kept = sorted(best, key=lambda kept: kept[0])

    def mean(self) -> RunningAverage:
        """Return the mean."""
        mean = RunningAverage(self._decay)
        for epoch, _, network in self._kept:
            mean.add(epoch, network)
        return mean

    def why_not_resumed(self, state: Mapping[str, Any], done: int) -> None:
        """Return None: the best epochs so far are the same whatever number will come."""

    def state_dict(self) -> dict[str, Any]:
        """Return what the mean at the end depends on; none of its tensors will be changed."""
        return {"kept": self._kept}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        self._kept = [tuple(kept) for kept in state["kept"]]


def average_of_epochs(average: Average, epochs: int) -> LastEpochs | BestEpochs:
    """Return what gathers the networks of the epochs that are averaged.

    Parameters
    ----------
    average : as the recipe has it.
    epochs : of the whole training.
    """
    return LastEpochs(average, epochs) if average.of == "last" else BestEpochs(average)


def load_average(
    mean: RunningAverage, trainer: Trainer, data: FoldData, group: ProcessGroup, *, seed: int, epoch: int
) -> None:
    """Give the network that is validated the weights of a mean, and its norms their statistics anew.

    These are the cumulative mean over one pass in training mode, as of :func:`torch.optim.swa_utils.update_bn`: over
    the batches of an epoch as that epoch saw them. Norms of an encoder that is still frozen keep theirs.

    Parameters
    ----------
    mean : of some epochs.
    trainer : of the training, which has ended.
    data : what this process reads of the fold.
    group : this process among those that train together; all get the mean of their statistics.
    seed : of the training.
    epoch : the last one.
    """
    nn.Module.load_state_dict(trainer.eval_model.network, mean.network)
    trainer.begin_epoch(epoch)
    data.batches.epoch = epoch
    # Dropout draws what it drew in that epoch
    torch.manual_seed(sample_seed(seed, epoch, data.n_train + group.rank))
    steps = data.batches.accumulation_steps
    renew_statistics(trainer, ((image, steps(number)) for number, (image, _) in enumerate(data.train)))
    group.average_buffers(trainer.eval_model)


def renew_statistics(trainer: Trainer, batches: Iterable[tuple[torch.Tensor, int]]) -> None:
    """Replace the statistics of norms by their mean over batches.

    Parameters
    ----------
    trainer : its ``eval_model`` is changed: the statistics of those of its norms that learn.
    batches : images (N, H, W, 3) uint8, and in how many micro-batches they are seen.
    """
    trainer.set_training(trainer.eval_model)
    norms = [module for module in trainer.eval_model.modules() if _has_statistics(module) and module.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    if norms:
        for image, accumulation_steps in batches:
            trainer.show(image, accumulation_steps)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _has_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.track_running_stats
