"""A network with everything that changes in a training step: weights, optimiser, gradient scaler, moving average."""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.optim.swa_utils import AveragedModel

from cloudseg.config.batching import MIN_MICRO_BATCH
from cloudseg.config.recipe import Recipe
from cloudseg.models.mixed_precision import autocast, keep_slow_layers_in_float32
from cloudseg.models.preprocessing import CHANNELS, normalise
from cloudseg.models.segmenter import Segmenter
from cloudseg.runtime import devices
from cloudseg.training.data.dataset import planes_of
from cloudseg.training.distributed import ProcessGroup
from cloudseg.training.losses import Loss, head_loss, loss_of_recipe
from cloudseg.training.modes import Freezable
from cloudseg.training.optimisers import build_optimiser, parameter_groups


class Outputs(NamedTuple):
    """The logits that a network gives of some images."""

    masks: torch.Tensor | None
    """(N, C, H, W); None of a classifier."""
    classes: torch.Tensor | None
    """(N, C), whether each class is in the image; None without a classification head."""


class Evaluated(NamedTuple):
    """What a network makes of some images with masks."""

    loss: torch.Tensor
    """float32 scalar."""
    logits: torch.Tensor | None
    """Of masks, (N, C, H, W); None of a classifier."""
    target: torch.Tensor
    """(N, C, H, W) float32, 0 or 1."""


class Trainer:
    """A network, its optimiser, its gradient scaler and the moving average of its weights.

    Parameters
    ----------
    model : on the CPU; moved to the group's device.
    recipe : by which the network is trained.
    class_names : of the planes, in their order.
    group : this process's rank among those that train together.
    loss_grid : (height, width) that the loss is computed at; None computes it at the size of the images.
    image_size : (height, width) of the images; a recipe with ``layer_decay`` needs it.

    Attributes
    ----------
    model : the network that is trained.
    eval_model : the network to validate and to keep: the moving average where the recipe has an ``ema``.
    classes : number of planes.
    dtype : what the network computes in.
    busy : how long the device worked (:class:`cloudseg.runtime.devices.BusyClock`).
    part : marks what a step does in its block: copy, forward, backward or step.
    """

    def __init__(
        self,
        model: Segmenter,
        recipe: Recipe,
        class_names: Sequence[str],
        group: ProcessGroup,
        loss_grid: tuple[int, int] | None = None,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        self._recipe, self._class_names, self._group = recipe, class_names, group
        self.classes = len(class_names)
        self._stage, self._frozen = recipe.stage_at(1), False
        self._part = 0, self._frozen  # epochs before the stage, and whether the encoder is frozen
        self.dtype = devices.compute_dtype(recipe.precision, group.device)
        self.busy = devices.BusyClock(group.device)
        self.part: Callable[[str], contextlib.AbstractContextManager] = torch.profiler.record_function
        self._loss_grid = loss_grid
        self.loss_of = self._build_loss()
        if group.size > 1 and group.device.type == "cuda":  # SyncBatchNorm is CUDA-only
            model = convert_sync_batchnorm(model)  # torch's own forgets the activations in timm's norms
        model = keep_slow_layers_in_float32(model, group.device, self.dtype)
        # Channels last is a quarter faster than planes, on the CPU too
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.model = model.to(group.device, memory_format=layout)
        self._groups = parameter_groups(self.model, recipe, image_size and self._blank(image_size))
        self._optimiser = build_optimiser(self._groups, recipe)
        self._encoder = Freezable(self.model.network.encoder) if recipe.freeze_encoder else None
        self._scaler = torch.amp.GradScaler(group.device.type, enabled=self.dtype == torch.float16)
        self._ema = _moving_average(self.model, recipe.ema) if recipe.ema else None
        self.eval_model = self._ema.module if self._ema else self.model
        # The DDP wrapper, made at the first step: finding unused parameters needs an image
        self._ddp_model: nn.Module | None = None
        self._forward: nn.Module | None = None

    def begin_epoch(self, epoch: int) -> None:
        """Put the network into training mode, and go by what the recipe says for an epoch, from 1."""
        frozen = epoch <= (self._recipe.freeze_encoder or 0)
        part = self._recipe.stage_start(epoch), frozen
        if part != self._part:
            self._part, self._stage, self._frozen = part, self._recipe.stage_at(epoch), frozen
            self.loss_of = self._build_loss()
            self._unwrap()
        if self._encoder:
            self._encoder.set_frozen(frozen)
        self.set_training(self.model)

    def set_training(self, model: Segmenter) -> None:
        """Put a network into training mode, but for an encoder that is frozen in this epoch."""
        model.train()
        if self._frozen:
            model.network.encoder.eval()

    def train_step(
        self,
        image: torch.Tensor,
        mask: torch.Tensor,
        *,
        learning_rate: float,
        n_images: int | None = None,
        accumulation_steps: int = 1,
    ) -> torch.Tensor:
        """Make one step, and return the sum of the loss over the images of this process.

        Parameters
        ----------
        image : (N, H, W, 3) uint8, this process's share of the batch.
        mask : as of :func:`cloudseg.training.data.dataset.planes_of`, soft where the recipe has ``soft_targets``.
        learning_rate : of this step; that of the encoder follows from it where the recipe has another.
        n_images : in the whole batch, over all processes; N when None. Shares need not be equally large: the gradient
            is that of the mean over all images.
        accumulation_steps : micro-batches into which the share is cut, to be seen one after the other; at most N / 2.
            What counts over the images that are seen at once, BatchNorm and the losses over a batch, then counts over
            a micro-batch.

        Returns
        -------
        Tensor : float32 scalar, on the device.
        """
        with self.busy.working():
            for settings, group in zip(self._optimiser.param_groups, self._groups, strict=True):
                settings["lr"] = group.learning_rate(self._stage, learning_rate)
            if self._ddp_model is None:
                self._wrap(image[:MIN_MICRO_BATCH])
            total = torch.zeros((), device=self._group.device)
            n_images = n_images or len(image)
            parts = (tensor.tensor_split(accumulation_steps) for tensor in (image, mask))
            for number, micro_batch in enumerate(zip(*parts, strict=True), start=1):
                self._group.count_step()
                with self._syncing_gradients(number == accumulation_steps):
                    loss, count = self._training_loss(*micro_batch), len(micro_batch[0])
                    with self.part("backward"):
                        # DistributedDataParallel divides the sum of the gradients by the number of processes
                        self._scaler.scale(loss * (count * self._group.size / n_images)).backward()
                total += loss.detach() * count
            with self.part("step"):
                self._step()
        return total

    def _step(self) -> None:
        """Change the weights by their gradients, and the moving average by the weights."""
        self._scaler.unscale_(self._optimiser)
        nn.utils.clip_grad_norm_(self.model.parameters(), self._recipe.clip)
        self._scaler.step(self._optimiser)
        self._scaler.update()
        self._optimiser.zero_grad()
        if self._ema:
            self._ema.update_parameters(self.model)

    @torch.no_grad()
    def eval_step(self, image: torch.Tensor, mask: torch.Tensor) -> Evaluated:
        """Look at some images with ``eval_model``, which must be in evaluation mode; their masks are bits."""
        self._group.count_step()
        with self.busy.working(), devices.resizing_natively(self._group.device):
            outputs, target = self._outputs(self.eval_model, self._to_network(image)), self._to_target(mask, soft=False)
            return Evaluated(self._loss(outputs, target), outputs.masks, target)

    @torch.no_grad()
    def show(self, image: torch.Tensor, accumulation_steps: int) -> None:
        """Let the norms of ``eval_model`` see images, in as many micro-batches as :meth:`train_step` cuts them into."""
        with self.busy.working(), devices.resizing_natively(self._group.device):
            for micro_batch in image.tensor_split(accumulation_steps):
                self._group.count_step()
                self._outputs(self.eval_model, self._to_network(micro_batch))

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on."""
        return {
            "model": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "scaler": self._scaler.state_dict(),
            "average": self._ema.state_dict() if self._ema else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from such a state."""
        self.model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._scaler.load_state_dict(state["scaler"])
        if self._ema:
            self._ema.load_state_dict(state["average"])

    def _syncing_gradients(self, last: bool) -> contextlib.AbstractContextManager:
        """Let DDP average gradients in the last micro-batch of a batch alone."""
        return contextlib.nullcontext() if last or self._group.size == 1 else self._ddp_model.no_sync()

    def _build_loss(self) -> Loss:
        return loss_of_recipe(self._stage, self._class_names, self._loss_grid)

    def _unwrap(self) -> None:
        """Forget what was made for the epochs before: another size or other weights that learn need it anew."""
        self._ddp_model = self._forward = None
        if self._recipe.compile:
            torch.compiler.reset()  # it compiles few sizes of a network, and a resumed run has not seen the others

    def _wrap(self, image: torch.Tensor) -> None:
        self._ddp_model = self._group.wrap_ddp(self.model, self._to_network(image))
        # Never dynamic: the last batch would change what computes the next epochs, and a resumed run has not seen it
        self._forward = torch.compile(self._ddp_model, dynamic=False) if self._recipe.compile else self._ddp_model

    def _training_loss(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        with self.part("copy"):
            image, target = self._to_network(image), self._to_target(mask, soft=self._recipe.soft_targets)
        with self.part("forward"):
            return self._loss(self._outputs(self._forward, image), target)

    def _loss(self, outputs: Outputs, target: torch.Tensor) -> torch.Tensor:
        if outputs.classes is None:
            return self.loss_of(outputs.masks, target)
        if outputs.masks is None:
            return head_loss(outputs.classes, target)
        return self.loss_of(outputs.masks, target) + self._recipe.head.weight * head_loss(outputs.classes, target)

    def _outputs(self, network: nn.Module, image: torch.Tensor) -> Outputs:
        with autocast(self._group.device, self.dtype):
            outputs = network(image)
        return Outputs(*outputs) if isinstance(outputs, tuple) else Outputs(outputs, None)

    def _to_network(self, image: torch.Tensor) -> torch.Tensor:
        recipe = self._recipe
        image = image.to(self._group.device, non_blocking=True)
        return normalise(image, recipe.normalise.mean, recipe.normalise.std, channels=CHANNELS[recipe.channels])

    def _blank(self, size: tuple[int, int]) -> torch.Tensor:
        """Return an image of one grey, as the network takes it."""
        return torch.zeros(1, CHANNELS[self._recipe.channels], *size, device=self._group.device)

    def _to_target(self, mask: torch.Tensor, *, soft: bool) -> torch.Tensor:
        return planes_of(mask.to(self._group.device, non_blocking=True), self.classes, soft=soft)


def _moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """Return an exponential moving average of weights and norms' statistics, which leans less on the first steps.

    The decay of step n is min(decay, (1 + n) / (10 + n)), as TensorFlow's ``ExponentialMovingAverage`` has it with
    ``num_updates``: a short training would else keep what it began with.
    """

    @torch.no_grad()
    def update(average: list[torch.Tensor], current: list[torch.Tensor], steps: torch.Tensor | int) -> None:
        steps = int(steps)
        share = 1 - min(decay, (1 + steps) / (10 + steps))
        if average[0].is_floating_point():
            torch._foreach_lerp_(average, current, share)
        else:  # how many batches a norm has seen
            torch._foreach_copy_(average, current)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)
