"""Every key of a recipe: its type, its default, its bounds and what it means, in this one place.

The params of a job are a recipe without what stands at its default, and a job makes a :class:`Recipe` of them again.
Nothing here imports what a job would wait for: torch, OpenCV or pandas.
"""

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Tag, model_serializer, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from cloudseg.config.fields import (
    BY_FORM,
    PIXELS,
    Bool,
    Model,
    Pattern,
    Positive,
    Scalar,
    Share,
    expected,
    freeze,
    left_out,
    sorted_keys,
)
from cloudseg.config.size import Size

Flip = Literal["identity", "horizontal", "vertical", "both"]
FLIPS = get_args(Flip)
# Schedules that depend on the number of epochs: more of them change every epoch, and a training cannot stop early
FOR_ALL_EPOCHS = ("cosine", "one_cycle")
Start = Annotated[
    str,
    Pattern(
        r"imagenet|none|file:[^{}<>*?]+|run:[a-z0-9]+/[0-9x]+/[a-z0-9_-]+",
        "imagenet, none, file:PATH (without any of {}<>*?) or run:DECODER/SIZE/RECIPE, such as run:fpn/96x144/flips",
    ),
]
TransformName = Annotated[
    str, Pattern(r"[A-Z][A-Za-z0-9]+", "the name of a transform of albumentations, such as HorizontalFlip")
]
CanvasSize = Annotated[Size, Pattern(PIXELS, "height x width in pixels, such as 700x1050")]
OF_BYTES = "pixels are in 0..1, so divide numbers for 0..255 by 255"
ChannelMean = Annotated[float, Scalar(ge=0, le=1, hint=OF_BYTES)]
ChannelDeviation = Annotated[float, Scalar(gt=0, le=1, hint=OF_BYTES)]


class Loss(Model):
    """Weights of the terms of the loss, summed in float32."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    bce: Positive = left_out()
    """Binary cross entropy per pixel and class."""
    dice: Positive = left_out()
    """Soft Dice per class over the batch; 0 for a class absent from the batch, so never alone."""
    focal: Positive = left_out()
    """Focal loss (Lin and others, 2017): cross entropy that counts easy pixels less."""
    lovasz: Positive = left_out()
    """Lovasz hinge (Berman and others, 2018), which follows the Jaccard index."""
    tversky: Positive = left_out()
    """Tversky loss (Salehi and others, 2017), 0.3 of false positives and 0.7 of false negatives; 0 for an absent class,
    so never alone.
    """

    @model_validator(mode="before")
    @classmethod
    def _require_a_term(cls, value: Any) -> Any:
        if value == {}:
            raise PydanticKnownError("too_short", {"field_type": "Loss", "min_length": 1, "actual_length": 0})
        return value

    @property
    def terms(self) -> dict[str, float]:
        """The weights of the terms that the loss has; the others are None."""
        return {name: weight for name, weight in self if weight is not None}

    @model_serializer
    def _dump(self) -> dict[str, Any]:  # a float would be written as one
        return self.terms


class Step(Model):
    """One transform of an augmentation. Its own arguments are as they were written; `model_extra` holds them."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(freeze)]] = Field(init=False)

    name: TransformName
    """Name of an albumentations transform."""
    p: Share = left_out()
    """Odds of being applied."""
    transforms: Annotated[tuple["Step", ...], Field(min_length=1)] = left_out()
    """What `OneOf`, `SomeOf` and `Sequential` choose from or apply: steps of the same form."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The transform's own arguments: all but its name, its odds and its transforms."""
        return dict(self.model_extra or {})

    @model_serializer
    def _dump(self) -> dict[str, Any]:
        return {name: value for name, value in self if name in self.model_fields_set}


class Normalise(Model):
    """Mean and standard deviation of the encoder's training images, per channel (R, G, B), in 0..1; ImageNet's by
    default.
    """

    mean: Annotated[tuple[ChannelMean, ...], Field(min_length=3, max_length=3)] = (0.485, 0.456, 0.406)
    """Mean per channel."""
    std: Annotated[tuple[ChannelDeviation, ...], Field(min_length=3, max_length=3)] = (0.229, 0.224, 0.225)
    """Standard deviation per channel."""


class Validation(Model):
    """How masks are made to count the Dice of an epoch, at the training size. A recipe has numbers of its own, so that
    a `decision` can be changed, or tuned, without training anew.
    """

    threshold: Annotated[float, Scalar(ge=0.001, le=1)] = 0.5
    """A pixel is in from this probability on."""
    min_area: Share | None = None
    """Smallest area of a component that stays, as a share of the image; below it, a stray pixel in an empty plane costs
    as much as a missed mask. 0.025 (4,594 of 350x525 pixels) for `demo` and `kaggle`, 0 for `source: path`.
    """


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
    (the encoder of that run of the same fold, last epoch).
    """
    loss: Loss = Loss(bce=1, dice=1)
    dice_over: Literal["class", "all"] = "class"
    """What the term `dice` is counted over in a batch: each class, and then the mean, or all classes and pixels
    together (smp in 2019, with 1 above and below the line), where a large class counts more and an absent one counts,
    too.
    """
    loss_grid: Literal["input", "submission"] = "input"
    """Where the loss is computed, on the network's own grid or on logits resized to the submission grid."""
    augmentation: tuple[Step, ...] = (
        Step(name="HorizontalFlip", p=0.5),
        Step(name="VerticalFlip", p=0.5),
        Step(name="RandomBrightnessContrast", p=0.5),
    )
    """Transforms in order, each an albumentations name, its odds `p` and its own arguments."""
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
    epochs: Annotated[int, Scalar(ge=1)] = 30
    """Passes over the training images."""
    learning_rate: Positive = 0.001
    """Peak learning rate of AdamW."""
    weight_decay: Annotated[float, Scalar(ge=0)] = 0.01
    """Decoupled weight decay of AdamW."""
    warmup: Annotated[float, Scalar(ge=0)] = 1
    """Epochs of linear warm-up before the schedule; `one_cycle` has a warm-up of its own."""
    schedule: Literal["cosine", "constant", "one_cycle", "plateau"] = "cosine"
    """How the learning rate goes on after the warm-up."""
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
    best_by: Literal["dice", "loss"] = "dice"
    """What chooses the `best` epoch, and what `patience` and `plateau` wait for, on the validation fold."""
    validation: Validation = Validation()
    precision: Literal["auto", "float32", "bf16", "fp16"] = "auto"
    """Arithmetic of the network. `auto` is bf16 on GPUs and CPUs that compute in it (AMX, AVX512_BF16), else fp16 on
    CUDA and float32 on the CPU. Losses are float32.
    """
    ema: Annotated[float, Scalar(gt=0, lt=1)] | None = None
    """Decay per step of a moving average of the weights, which is then validated and kept in their place, such as
    0.999.
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
        return self.model_dump(mode="json", include={"augmentation"})["augmentation"]

    def canonical(self, *keys: str) -> dict[str, Any]:
        """Return the params that make this recipe again: keys sorted, what stands at its default left out.

        Params of jobs are compared as text, so one recipe must always be the same text.

        Parameters
        ----------
        keys : those to return; all, when there are none.
        """
        return sorted_keys(self.model_dump(mode="json", exclude_defaults=True, include=set(keys) or None))
