"""The decoders of segmentation-models-pytorch: what they ask of an image's size, and the options that they take.

    python -m cloudseg.config.decoders     # makes the table of options anew; a test holds it against the installed smp

Read at parse time, so nothing here imports torch.
"""

import dataclasses
import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from cloudseg.config.names import nearest

TABLE = Path(__file__).with_name("decoders.json")
LONGEST = 60  # characters of a value that a message shows
MOST = 2048  # channels of a layer; what a foreign checkpoint names must not fill the memory


@dataclasses.dataclass(frozen=True)
class Decoder:
    """The demands of one decoder with its default options."""

    stride: int
    """Height and width are padded to multiples of this before the network sees them; 1 means any size."""

    minimum: int = 32
    """Smallest height and width in pixels. Below 32 the encoder's last features cover less than a pixel."""

    stages: int = 5
    """Stages of the encoder in use; a file of initial weights holds all five, the rest is left out."""


CLASSIFIER = "classifier"
"""What the sheet calls a network without decoder, which says only whether a class is there."""

DECODERS = {
    "unet": Decoder(stride=1),
    "unetplusplus": Decoder(stride=32),
    "manet": Decoder(stride=32),
    "linknet": Decoder(stride=32),
    "fpn": Decoder(stride=32),
    "pspnet": Decoder(stride=8, stages=3),
    "deeplabv3": Decoder(stride=8),
    "deeplabv3plus": Decoder(stride=16),
    # Three poolings of features at 1/16 need at least eight rows: 113 is padded to 128.
    "pan": Decoder(stride=16, minimum=113),
    "upernet": Decoder(stride=32),
    "segformer": Decoder(stride=32),
    # A vision transformer with patches of 16; its features are halved once, so their number must be even.
    "dpt": Decoder(stride=32, stages=4),
    CLASSIFIER: Decoder(stride=1),
}
"""Decoders by smp's own lower-case names, and the classifier; a test holds this table against the installed smp."""

OWN_OPTIONS = {"fpn": {"finest_level": {"types": ["bool"], "default": True}}}
"""Options that smp does not have: without its finest level, the sum of an FPN begins at 1/8 of the image."""

NOT_OPTIONS = {
    "encoder_name": "it is the column `encoder` of the sheet",
    "encoder_weights": "it is `start` of the recipe",
    "encoder_depth": "the encoder is used in as many stages as the decoder has by default",
    "in_channels": "it is `channels` of the recipe",
    "classes": "they are those of the dataset",
    "activation": "losses take logits",
    "upsampling": "masks must come out as large as the image, which smp's own number does",
    "aux_params": "it is `head` of the recipe",
}
"""Arguments of smp's constructors that are no options, and why."""

_INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "area", "nearest-exact")
_CHOICES = {  # which smp's annotations leave open
    "decoder_attention_type": (None, "scse"),
    "decoder_interpolation": _INTERPOLATIONS,
    "decoder_merge_policy": ("add", "cat"),
}
_NORMS = ("batchnorm", "identity")
_WITH_INSTANCE_NORM = ("unet", "unetplusplus", "pspnet")  # the others normalise features that may be a single pixel
_GROUPS = 32  # of the group norms of an FPN
_SCSE_REDUCTION = 16  # what the attention divides channels by


_WITHOUT_WEIGHTS = {  # options that change none of a network's weights, its last layer's aside
    *("decoder_dropout", "psp_dropout", "decoder_aspp_dropout", "decoder_interpolation", "decoder_merge_policy"),
    *("decoder_atrous_rates", "encoder_output_stride", "encoder_output_indices"),
}


@cache
def decoder_options(decoder: str) -> dict[str, dict[str, Any]]:
    """Return the options of a decoder: the types or choices of each, and its default.

    Examples
    --------
    >>> decoder_options("linknet"), decoder_options("dpt")["decoder_readout"]["choices"], decoder_options("classifier")
    ({'decoder_use_norm': {'types': ['bool', 'str', 'dict'], 'default': 'batchnorm'}}, ['ignore', 'add', 'cat'], {})
    """
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    return table.get(decoder, {}) | OWN_OPTIONS.get(decoder, {})


def demands(decoder: str, options: Mapping[str, Any] | None = None) -> Decoder:
    """Return what a decoder with some options asks of an image's size.

    Parameters
    ----------
    decoder : a key of ``DECODERS``.
    options : as :func:`decoder_option_problems` takes them, with no problem; None means smp's defaults.

    Examples
    --------
    >>> demands("pan"), demands("pan", {"encoder_output_stride": 32})
    (Decoder(stride=16, minimum=113, stages=5), Decoder(stride=32, minimum=225, stages=5))
    """
    asked = DECODERS[decoder]
    stride = (options or {}).get("encoder_output_stride", asked.stride)
    minimum = 7 * stride + 1 if decoder == "pan" else asked.minimum  # padded to eight rows of features
    return dataclasses.replace(asked, stride=stride, minimum=minimum)


def weighty_options(decoder: str, options: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the options that decide which weights a decoder has, those at their default included.

    Examples
    --------
    >>> weighty_options("fpn", {"decoder_dropout": 0.5, "decoder_pyramid_channels": 128})
    {'decoder_pyramid_channels': 128, 'decoder_segmentation_channels': 128, 'finest_level': True}
    >>> weighty_options("linknet") == weighty_options("linknet", {"decoder_use_norm": {"type": "batchnorm"}})
    True
    """
    known, given = decoder_options(decoder), options or {}
    return {
        name: _weighty(name, given.get(name, option["default"]))
        for name, option in known.items()
        if name not in _WITHOUT_WEIGHTS
    }


def _weighty(name: str, value: Any) -> Any:
    if name == "decoder_readout":
        return value == "cat"
    if name == "decoder_use_norm":
        kind = value.get("type") if isinstance(value, Mapping) else value
        return {True: "batchnorm", False: "identity"}.get(kind, kind)
    return list(value) if isinstance(value, tuple) else value


def decoder_option_problems(decoder: str, options: Mapping[str, Any]) -> list[str]:
    """List what is wrong with the options of a decoder, one line each.

    Parameters
    ----------
    decoder : a key of ``DECODERS``.
    options : name to value, as they come from YAML or JSON; sequences may be tuples.

    Examples
    --------
    >>> decoder_option_problems("unet", {"channels": [64], "upsampling": 2, "decoder_interpolation": "cubic"})
    ... # doctest: +NORMALIZE_WHITESPACE
    ["unet has no option 'channels' (nearest: decoder_channels)",
     "upsampling: masks must come out as large as the image, which smp's own number does",
     'decoder_interpolation: expected nearest, bilinear, bicubic, area or nearest-exact, got cubic']
    >>> decoder_option_problems("unet", {"decoder_channels": (256, 128, 64, 32, 8), "decoder_attention_type": "scse"})
    ['decoder_channels: expected 5 whole numbers from 16 to 2048, for the attention `scse`, got [256, 128, 64, 32, 8]']
    """
    return [problem for name, value in options.items() if (problem := _problem(decoder, name, value, options))]


def _problem(decoder: str, name: str, value: Any, options: Mapping[str, Any]) -> str | None:
    known = decoder_options(decoder)
    if name in known:
        expected = _expected(decoder, name, known[name], options)
        return None if expected.fits(value) else f"{name}: expected {expected.words}, got {_shown(value)}"
    if decoder == CLASSIFIER:
        return f"a {CLASSIFIER} has no decoder, so no option {name!r:.60}"
    return (
        f"{name}: {NOT_OPTIONS[name]}"
        if name in NOT_OPTIONS
        else f"{decoder} has no option {name!r:.60}{nearest(name, known)}"
    )


def _shown(value: Any) -> str:
    """Return a value as YAML would have it, more or less, and not all of a long one."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} ..."


class _Expected(NamedTuple):
    """What an option takes: a test of its value, and the same in words."""

    fits: Callable[[Any], bool]
    words: str


def _expected(decoder: str, name: str, option: Mapping[str, Any], options: Mapping[str, Any]) -> _Expected:
    """Return what an option takes beside the others."""
    if choices := option.get("choices") or _CHOICES.get(name):
        return _one_of(choices)
    match option["types"][-1]:
        case "dict":
            return _norm(decoder)
        case "ints":
            return _whole_numbers(decoder, name, option, options)
        case "int":
            return _channels(decoder, name)
        case "float":
            return _Expected(lambda value: _is_number(value) and 0 <= value < 1, "a number from 0 to below 1")
    return _Expected(lambda value: isinstance(value, bool), "true or false")


def _one_of(choices: Sequence[Any]) -> _Expected:
    def fits(value: Any) -> bool:  # True == 1, and a list cannot be looked up
        return any(type(value) is type(choice) and value == choice for choice in choices)

    *rest, last = map(_shown, choices)
    return _Expected(fits, f"{', '.join(rest)} or {last}")


def _channels(decoder: str, name: str) -> _Expected:
    multiple = _GROUPS if (decoder, name) == ("fpn", "decoder_segmentation_channels") else 1
    words = f"a multiple of {multiple} up to {MOST}" if multiple > 1 else f"a whole number from 1 to {MOST}"
    return _Expected(lambda value: _is_whole(value, 1, MOST) and value % multiple == 0, words)


def _whole_numbers(decoder: str, name: str, option: Mapping[str, Any], options: Mapping[str, Any]) -> _Expected:
    if name == "encoder_output_indices":
        return _block_indices(DECODERS[decoder].stages)
    many, least = len(option["default"]), 1
    words = f"{many} whole numbers from 1 to {MOST}"
    if name == "decoder_channels" and options.get("decoder_attention_type") == "scse":
        least, words = (
            _SCSE_REDUCTION,
            f"{many} whole numbers from {_SCSE_REDUCTION} to {MOST}, for the attention `scse`",
        )
    return _Expected(lambda value: _is_list(value, many) and all(_is_whole(each, least, MOST) for each in value), words)


def _block_indices(many: int) -> _Expected:
    def fits(value: Any) -> bool:
        if value is None:
            return True
        numbers = _is_list(value, many) and all(_is_whole(each, -MOST, MOST) for each in value)
        return numbers and list(value) == sorted(set(value)) and (value[0] >= 0 or value[-1] < 0)

    return _Expected(fits, f"{many} rising numbers of blocks, all from 0 or all counted from the last, -1, or null")


def _norm(decoder: str) -> _Expected:
    """Return which norms fit images: smp's layernorm does not take them, and inplace is another package."""
    kinds = {"batchnorm": {"eps", "momentum"}}
    words = "true, false, batchnorm, identity or a mapping such as {type: batchnorm, momentum: 0.01}"
    if decoder in _WITH_INSTANCE_NORM:
        kinds["instancenorm"] = {"eps", "affine"}
        words += " or {type: instancenorm, affine: true}"

    def fits(value: Any) -> bool:
        if not isinstance(value, Mapping):
            return isinstance(value, bool) or (isinstance(value, str) and value in _NORMS)
        kind = value.get("type")
        if not isinstance(kind, str) or not set(value) <= {"type", *kinds.get(kind, ())} or kind not in kinds:
            return False
        # smp sets the scale of each norm, which one without `affine` lacks
        affine = kind != "instancenorm" or value.get("affine") is True
        return affine and all(
            _is_number(value.get(key, 1)) and 0 < value.get(key, 1) <= 1 for key in ("eps", "momentum")
        )

    return _Expected(fits, words)


def _is_whole(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_list(value: Any, many: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == many


def installed_table() -> dict[str, dict[str, dict[str, Any]]]:
    """Return the table of options as the installed smp has it."""
    from segmentation_models_pytorch import MODEL_ARCHITECTURES_MAPPING

    return {decoder: dict(_options_of(constructor)) for decoder, constructor in MODEL_ARCHITECTURES_MAPPING.items()}


def _options_of(constructor: type) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, parameter in inspect.signature(constructor).parameters.items():
        if name not in NOT_OPTIONS and parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            default = parameter.default
            yield (
                name,
                _types_of(parameter.annotation) | {"default": list(default) if isinstance(default, tuple) else default},
            )


def _types_of(annotation: Any) -> dict[str, list[Any]]:
    """Return the choices of a Literal, or the names of the types of another annotation, that of null first."""
    if typing.get_origin(annotation) is typing.Literal:
        return {"choices": list(typing.get_args(annotation))}
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return {"types": sorted(map(_type_name, typing.get_args(annotation) if union else [annotation]), key="null".__ne__)}


def _type_name(kind: Any) -> str:
    origin = typing.get_origin(kind)
    if kind is type(None):
        return "null"
    if origin is not None and issubclass(origin, Iterable):
        return "dict" if issubclass(origin, Mapping) else "ints"
    return kind.__name__


if __name__ == "__main__":
    parts = []
    for decoder_name, options_table in installed_table().items():
        rows = ",\n".join(f"    {json.dumps(name)}: {json.dumps(option)}" for name, option in options_table.items())
        parts.append(f"  {json.dumps(decoder_name)}: {{\n{rows}\n  }}")
    TABLE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
