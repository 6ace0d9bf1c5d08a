"""Every key of a recipe: its type, its default, its bounds and what it means, in this one place.

The params of a job are a recipe without what stands at its default, and a job makes a :class:`Recipe` of them again.
Nothing here imports what a job would wait for: torch, OpenCV or pandas.
"""

import itertools
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, SerializerFunctionWrapHandler, Tag, model_serializer
from pydantic_core import PydanticCustomError

from cloudseg.config.fields import (
    BY_FORM,
    Bool,
    FrozenDict,
    Model,
    Pattern,
    Positive,
    Scalar,
    expected,
    freeze,
    sorted_keys,
)
from cloudseg.config.recipe_parts import (
    Average,
    CanvasSize,
    CutMix,
    Epochs,
    Fraction,
    Head,
    Loss,
    LossPlanes,
    MixUp,
    Normalise,
    Pseudo,
    Schedule,
    Stage,
    Step,
    Validation,
)
from cloudseg.config.size import Size

Flip = Literal["identity", "horizontal", "vertical", "both"]
FLIPS = get_args(Flip)
# Schedules that depend on the number of epochs: more of them change every epoch, and a training cannot stop early
FOR_ALL_EPOCHS = ("cosine", "one_cycle")
Start = Annotated[
    str,
    Pattern(
        r"imagenet|none|file:[^{}<>*?]+|(run|network):[a-z0-9]+/[0-9x]+/[a-z0-9_-]+",
        "imagenet, none, file:PATH (without any of {}<>*?), run:DECODER/SIZE/RECIPE or network:DECODER/SIZE/RECIPE, "
        "such as run:fpn/96x144/flips",
    ),
]

# Keys that came after the first records of trainings: a recipe that leaves them alone is written as it was then
LATER = (
    *("brightness", "loss_planes", "dice_smooth", "class_weights", "cutmix", "mixup", "stages", "average"),
    *("optimiser", "momentum", "encoder_learning_rate", "layer_decay", "freeze_encoder", "pct_start"),
    *("decoder_options", "head", "pseudo", "deterministic"),
)


class View(Model):
    """One view of test-time augmentation; in a config also the word alone."""

    view: Flip
    """How the image is flipped before the network sees it; `both` turns it by 180 degrees."""
    scale: Annotated[float, Scalar(gt=0, le=4)] = 1
    """What the sides of the image are multiplied by before the network sees it."""
    weight: Positive = 1
    """Weight in the mean of the views."""


def _view(value: Any) -> Any:
    """Return a view that is one word as the mapping that it means."""
    if isinstance(value, str):
        if value not in FLIPS:
            raise PydanticCustomError("expected", "expected {expected}", {"expected": A_VIEW})
        return {"view": value}
    return value


A_VIEW = "identity, horizontal, vertical, both, or one of them with a scale or weight, such as {view: both, scale: 0.5}"
Views = Annotated[
    tuple[Annotated[View, BeforeValidator(_view, json_schema_input_type=Flip | View), expected(A_VIEW)], ...],
    Field(min_length=1),
]


class Recipe(Model):
    """How a network is trained and how it predicts.

    Examples
    --------
    The params of a job leave out what stands at its default:

    >>> recipe = Recipe(batch=8, epochs=10)
    >>> recipe.canonical(), recipe.learning_rate, Recipe(**recipe.canonical()) == recipe
    ({'batch': 8, 'epochs': 10}, 0.001, True)
    """

    start: Start = "imagenet"
    """Initial encoder weights: `imagenet`, `none` (random), `file:PATH` (safetensors), or `run:DECODER/SIZE/RECIPE`
    (the encoder of that run of the same fold, last epoch); `network:DECODER/SIZE/RECIPE` takes its decoder, too, and
    its last layer where the classes are the same.
    """
    brightness: Annotated[int, Scalar(ge=0, le=254)] | None = None
    """Learn which pixels are brighter than this grey value, in place of the labels, on training and test images: a
    network to start others from by `network:`, of one class, neither predicted nor scored.
    """
    loss: Loss = Loss(bce=1, dice=1)
    loss_planes: LossPlanes = "all"
    """Which planes, each a class of an image, the loss teaches: `positive` leaves out those without a pixel of truth.
    Such a network says where a class is and not whether it is there: make it a `where` member of an ensemble.
    """
    class_weights: FrozenDict[str, Positive] | None = None
    """Weight of each class in the loss, one number per class; only their ratios count."""
    dice_over: Literal["class", "all", "plane"] = "class"
    """What the term `dice` is counted over in a batch: each class, and then the mean; all classes and pixels together
    (smp in 2019, with 1 above and below the line), where a large class counts more and an absent one counts, too; or
    each plane, a class of an image, and then the mean.
    """
    dice_smooth: Annotated[float, Scalar(ge=0)] | None = None
    """What the term `dice` adds above and below the line, in pixels; null is 1 for `dice_over: all` and else 0."""
    loss_grid: Literal["input", "submission"] = "input"
    """Where the loss is computed, on the network's own grid or on logits resized to the submission grid."""
    augmentation: tuple[Step, ...] = (
        Step(name="HorizontalFlip", p=0.5),
        Step(name="VerticalFlip", p=0.5),
        Step(name="RandomBrightnessContrast", p=0.5),
    )
    """Transforms in order, each an albumentations name, its odds `p` and its own arguments."""
    cutmix: CutMix | None = None
    mixup: MixUp | None = None
    canvas: CanvasSize | None = None
    """Size at which training images are augmented before they are resized to the training size; null augments at the
    training size.
    """
    channels: Literal["rgb", "gray"] = "rgb"
    """What the network sees. With `gray`, the initial weights of the three channels are summed into one."""
    normalise: Normalise = Normalise()
    batch: Annotated[int, Scalar(ge=2)] = 16
    """Images per step, over all devices."""
    micro_batch: Annotated[int, Scalar(ge=2)] | None = None
    """Images that a device sees at once, where its memory is not enough for its share of the batch (rule `probe` finds
    out); gradients are summed over these micro-batches. BatchNorm and the losses over a batch then count
    over a micro-batch.
    """
    gpus: Annotated[int, Scalar(ge=1, le=16)] = 1
    """Devices of one machine that share each batch, one process each. Without GPUs (`device: cpu`, `--resources gpu=0`)
    as many processes share the CPU.
    """
    epochs: Epochs = 30
    """Passes over the training images."""
    stages: Annotated[tuple[Stage, ...], Field(min_length=2)] | None = None
    """Parts of the training, one after the other, with a loss, learning rate, size or augmentation of their own."""
    optimiser: Literal[
        "adamw", "adam", "adamax", "nadam", "radam", "rmsprop", "sgd", "adagrad", "adadelta", "adafactor"
    ] = "adamw"
    """Optimiser of torch. `adamw`, `nadam`, `radam` and `adafactor` decay weights apart from the gradient; the others
    add the decay to it.
    """
    momentum: Annotated[float, Scalar(ge=0, lt=1)] | None = None
    """Momentum of `sgd` (null is 0.9, with Nesterov's step) and `rmsprop` (null is 0)."""
    learning_rate: Positive = 0.001
    """Peak learning rate of the optimiser."""
    encoder_learning_rate: Positive | None = None
    """Peak learning rate of the encoder; null is `learning_rate`."""
    layer_decay: Fraction | None = None
    """Share of the encoder's learning rate that its last stage learns at; the stage before learns at the square of it,
    and so on to the first. A stage is what a feature map needs that no finer one does; of a vision transformer, some
    blocks.
    """
    freeze_encoder: Epochs | None = None
    """Epochs, from the first on, in which the encoder does not change, its norms' statistics included."""
    weight_decay: Annotated[float, Scalar(ge=0)] = 0.01
    """Weight decay of the optimiser; norms and biases have none."""
    warmup: Annotated[float, Scalar(ge=0)] = 1
    """Epochs of linear warm-up before the schedule; `one_cycle` has a warm-up of its own."""
    schedule: Schedule = "cosine"
    """How the learning rate goes on after the warm-up."""
    pct_start: Fraction | None = None
    """Share of the training in which `one_cycle` raises the learning rate; null is 0.3."""
    plateau_patience: Annotated[int, Scalar(ge=0)] = 2
    """Epochs without a better one that `plateau` endures; it lowers the learning rate after one more."""
    plateau_factor: Annotated[float, Scalar(gt=0, lt=1)] = 0.5
    """What `plateau` multiplies the learning rate by."""
    drop_last: Bool = False
    """Leave out the last, smaller batch of an epoch. A last batch of one image is always left out."""
    clip: Positive = 1
    """Largest norm of the gradient; what is above is scaled down."""
    patience: Annotated[int, Scalar(ge=0)] = 0
    """Stop after so many epochs without a better one; 0 never stops early. With `cosine` and `one_cycle`, which end at
    a learning rate of 0, it must be 0.
    """
    best_by: Literal["dice", "loss", "dice_nonempty"] = "dice"
    """What chooses the `best` epoch, and what `patience` and `plateau` wait for, on the validation fold;
    `dice_nonempty` is the Dice of the planes that hold truth.
    """
    validation: Validation = Validation()
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    """Arithmetic of the network. `auto` is bf16 on GPUs and CPUs that compute in it (AMX, AVX512_BF16), else fp16 on
    CUDA and float32 on the CPU. Losses are float32.
    """
    ema: Annotated[float, Scalar(gt=0, lt=1)] | None = None
    """Decay per step of a moving average of the weights, which is then validated and kept in their place, such as
    0.999.
    """
    average: Average | None = None
    decoder_options: FrozenDict[str, Annotated[Any, AfterValidator(freeze)]] | None = None
    """Arguments of the decoder in segmentation-models-pytorch, such as {decoder_attention_type: scse}, and our own
    `finest_level: false` of `fpn`, which leaves the finest level out of its sum.
    """
    head: Head | None = None
    pseudo: Pseudo | None = None
    deterministic: Bool | None = None
    """Compute the same bits in each run on the same kind of device, so that a training that was stopped ends with the
    bits of one that was not. null does so on a CPU and not on CUDA, where networks that resize bilinearly, as FPN does,
    then do it by a slow form.
    """
    channels_last: Bool = True
    """Lay pixels out with their channels together in training; most networks are faster so."""
    compile: Bool = False
    """Let torch compile the network for training (minutes at the start; on the CPU it needs a C++ compiler)."""
    tta: Annotated[
        Annotated[Literal["recipe"], Tag("<string>")] | Annotated[Views, Tag("<array>")],
        BY_FORM,
        expected(
            "`recipe` or a list of views, such as [identity, horizontal] or [{view: identity, scale: 0.5, weight: 2}]"
        ),
    ] = tuple(View(view=flip) for flip in FLIPS)
    """Views of test-time augmentation, or `recipe`: the augmentation with every probability set to 1, one view per
    transform, each undone.
    """

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The augmentation in plain values, as the tables of albumentations take it."""
        return [step.model_dump(mode="json") for step in self.augmentation]

    @property
    def checkpoints(self) -> tuple[str, ...]:
        """The names of the checkpoints that its trainings keep."""
        return ("best", "last", "average") if self.average else ("best", "last")

    @property
    def heeds_validation(self) -> bool:
        """Whether its last epoch depends on the validation images, which lower a rate or stop the training."""
        return bool(self.patience) or any(part.schedule == "plateau" for part in self.parts)

    @property
    def trains_on_test(self) -> bool:
        """Whether test images train, too."""
        return self.brightness is not None or self.pseudo is not None

    @property
    def soft_targets(self) -> bool:
        """Whether targets lie between 0 and 1: blended masks, or probabilities."""
        return self.mixup is not None or (self.pseudo is not None and self.pseudo.soft)

    @property
    def says_where_only(self) -> bool:
        """Whether its trainings end on planes with truth alone: such a network has not learned to leave one empty.

        Examples
        --------
        >>> stages = [{"epochs": 1, "loss_planes": "positive"}, {"epochs": 1}]
        >>> [Recipe(epochs=2, stages=each).says_where_only for each in (None, stages, stages[::-1])]
        [False, False, True]
        """
        return self.parts[-1].loss_planes == "positive"

    @property
    def parts(self) -> tuple["Recipe", ...]:
        """What its epochs go by, one after the other: itself, or itself with the numbers of each of its stages."""
        if self.stages is None:
            return (self,)
        return tuple(self.model_copy(update={"stages": None, **stage.changes}) for stage in self.stages)

    def stage_at(self, epoch: int) -> "Recipe":
        """Return what an epoch, from 1, goes by: the recipe with the numbers of its stage.

        Examples
        --------
        >>> recipe = Recipe(epochs=3, stages=[{"epochs": 2}, {"epochs": 1, "learning_rate": 0.0001}])
        >>> [recipe.stage_at(epoch).learning_rate for epoch in (1, 2, 3)], recipe.stage_at(3).epochs
        ([0.001, 0.001, 0.0001], 1)
        """
        return self.parts[self._stage_number(epoch)]

    def stage_start(self, epoch: int) -> int:
        """Return how many epochs come before the stage of an epoch, from 1.

        Examples
        --------
        >>> recipe = Recipe(epochs=3, stages=[{"epochs": 2}, {"epochs": 1}])
        >>> [recipe.stage_start(epoch) for epoch in (1, 2, 3)], Recipe().stage_start(3)
        ([0, 0, 2], 0)
        """
        ends = itertools.accumulate(stage.epochs for stage in self.stages or ())
        return max((end for end in ends if end < epoch), default=0)

    def stage_size(self, epoch: int) -> Size | None:
        """Return the size that images are trained at in an epoch, from 1, if it is not the training size."""
        return self.stages[self._stage_number(epoch)].size if self.stages else None

    def _stage_number(self, epoch: int) -> int:
        """Return the number of the stage of an epoch, from 0; the epochs behind all stages are of the last."""
        ends = itertools.accumulate(stage.epochs for stage in (self.stages or ())[:-1])
        return sum(end < epoch for end in ends)

    @model_serializer(mode="wrap")
    def _without_later_keys(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what came later and is left alone, so that records and digests of old recipes stay as they are."""
        alone = {name for name in LATER if getattr(self, name) == type(self).model_fields[name].default}
        return {name: value for name, value in dump(self).items() if name not in alone}

    def canonical(self, *keys: str) -> dict[str, Any]:
        """Return the params that make this recipe again: keys sorted, what stands at its default left out.

        Params of jobs are compared as text, so one recipe must always be the same text.

        Parameters
        ----------
        keys : those to return; all, when there are none.
        """
        return sorted_keys(self.model_dump(mode="json", exclude_defaults=True, include=set(keys) or None))
