"""The parts of a recipe that are mappings of their own: loss, augmentation, mixes, stages, averages, heads."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_serializer, model_validator
from pydantic_core import PydanticKnownError

from cloudseg.config.fields import PIXELS, Bool, Model, Pattern, Positive, Scalar, Share, freeze, left_out
from cloudseg.config.size import Size

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
    """Soft Dice, per class over the batch unless `dice_over` says otherwise; without `dice_smooth` 0 for a class absent
    from the batch, so never alone.
    """
    focal: Positive = left_out()
    """Focal loss (Lin and others, 2017): cross entropy that counts easy pixels less."""
    lovasz: Positive = left_out()
    """Lovasz hinge (Berman and others, 2018), which follows the Jaccard index."""
    symmetric_lovasz: Positive = left_out()
    """Mean of the Lovasz hinge of a mask and of that of its complement, per plane: it counts empty planes, too."""
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
    as much as a missed mask. 0.025 (4,594 of 350x525 pixels) for `demo` and `kaggle`, 0 for `source: path` and
    beside `brightness`.
    """


LossPlanes = Literal["all", "positive"]
Schedule = Literal["cosine", "constant", "one_cycle", "plateau"]
Epochs = Annotated[int, Scalar(ge=1)]
Fraction = Annotated[float, Scalar(gt=0, lt=1)]
Odds = Annotated[float, Scalar(gt=0, le=1)]


class CutMix(Model):
    """Paste a rectangle of another training image, with its masks, at the same place (Yun and others, 2019)."""

    p: Odds = 0.5
    """Share of the images that are mixed."""
    alpha: Positive = 1
    """The share of the image that stays is drawn from Beta(alpha, alpha); 1 draws any share alike."""


class MixUp(Model):
    """Average an image and its masks with those of another training image (Zhang and others, 2018)."""

    p: Odds = 0.5
    """Share of the images that are mixed."""
    alpha: Positive = 0.4
    """The weight of the image is drawn from Beta(alpha, alpha); below 1 most images stay nearly as they are."""


class Stage(Model):
    """Some epochs of a training that go by numbers of their own; what a stage leaves out is as the recipe has it."""

    epochs: Epochs
    """Epochs of the stage; those of all stages add up to the recipe's `epochs`."""
    loss: Loss | None = None
    loss_planes: LossPlanes | None = None
    """As of the recipe."""
    learning_rate: Positive | None = None
    """Peak learning rate of the stage."""
    encoder_learning_rate: Positive | None = None
    """Peak learning rate of the encoder in the stage."""
    schedule: Schedule | None = None
    """How the learning rate goes over the epochs of the stage; each stage begins it anew."""
    warmup: Annotated[float, Scalar(ge=0)] | None = None
    """Epochs of linear warm-up at the beginning of the stage."""
    size: CanvasSize | None = None
    """Size that images are trained at in the stage, at most the training size or the canvas; validation stays at the
    training size.
    """
    augmentation: tuple[Step, ...] | None = None
    """Transforms of the stage, in place of the recipe's."""

    @property
    def changes(self) -> dict[str, Any]:
        """The keys of the recipe that are others in this stage."""
        return {name: value for name, value in self if value is not None and name != "size"}


class Average(Model):
    """A mean of the weights of some epochs, kept as a third checkpoint, `average`."""

    epochs: Annotated[int, Scalar(ge=2)] = 5
    """How many epochs take part."""
    of: Literal["last", "best"] = "last"
    """Which: the last ones, or those that were best by `best_by`."""
    decay: Fraction | None = None
    """Go through them in their order with average = decay * average + (1 - decay) * next; null weighs all alike."""


class Head(Model):
    """A classification head beside the masks: whether each class is in the image."""

    weight: Positive = 0.1
    """Weight of its binary cross entropy in the loss."""
    pooling: Literal["avg", "max"] = "avg"
    """How the last features of the encoder are pooled."""
    dropout: Annotated[float, Scalar(ge=0, lt=1)] = 0.2
    """Dropout before its linear layer."""


class Pseudo(Model):
    """Test images that train, too, labelled by an ensemble: for each fold by networks that have not seen it."""

    ensemble: str
    """Name of the ensemble; for fold f its members of fold f alone make the labels."""
    share: Odds = 0.5
    """Share of the test images that train: those with most pixels that are certain."""
    certain: Annotated[tuple[Share, ...], Field(min_length=2, max_length=2)] = (0.1, 0.7)
    """A pixel is certain below the first probability and above the second."""
    presence: Annotated[tuple[Share, ...], Field(min_length=2, max_length=2)] | None = None
    """Leave out an image unless each of its classes is surely absent or present: the mean of its 9.5 % largest
    probabilities is below the first number or above the second.
    """
    soft: Bool = False
    """Train on probabilities in place of masks."""
    threshold: Annotated[float, Scalar(ge=0.001, le=1)] = 0.5
    """A pixel is in from this probability on."""
    min_area: Share | None = None
    """Smallest area of a component that stays, as a share of the image; null is that of `validation`."""
