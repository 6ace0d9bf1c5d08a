"""The header of a safetensors file, read without torch and checked before it is used.

A checkpoint may come from somebody else. Its header must name a known encoder and decoder, since timm takes some names
for a hub or a folder to load from, and every other value must be one that training writes.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from cloudseg.config.classes import MOST_CLASSES
from cloudseg.config.decoders import CLASSIFIER, DECODERS, decoder_option_problems, weighty_options
from cloudseg.config.encoders import require_encoder
from cloudseg.config.names import require
from cloudseg.config.recipe import Recipe
from cloudseg.errors import DamagedFileError

KEY = "cloudseg"  # the one key of the safetensors metadata; its value is JSON
LONGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors library
MOST_OPTIONS = 32  # of a decoder
LONGEST_OPTION = 64  # characters of its name
CHANNELS = {"rgb": 3, "gray": 1}
"""What a recipe's ``channels`` may name, and how many a network then sees."""
POOLINGS = ("avg", "max")


class NetworkHead(NamedTuple):
    """A classification head as its network needs it; what its loss weighs is a matter of the training alone."""

    pooling: str = "avg"
    dropout: float = 0.2


@dataclasses.dataclass(frozen=True)
class NetworkHeader:
    """The network of a checkpoint, as its metadata describe it.

    Parameters
    ----------
    encoder, decoder : names of smp.
    classes : names of its planes.
    channels : of the images that it takes, 3 or 1.
    options : those of the decoder that are not its defaults', in plain values of JSON; None without any.
    head : the classification head; None without one. A classifier alone has one in any case.

    Examples
    --------
    >>> NetworkHeader("resnet34", "fpn", ("Fish", "Sugar")).metadata
    {'encoder': 'resnet34', 'decoder': 'fpn', 'classes': ['Fish', 'Sugar']}
    >>> NetworkHeader.of_recipe("resnet34", "fpn", ["Fish"], Recipe(channels="gray", head={})).metadata
    ... # doctest: +NORMALIZE_WHITESPACE
    {'encoder': 'resnet34', 'decoder': 'fpn', 'classes': ['Fish'], 'channels': 1,
     'head': {'pooling': 'avg', 'dropout': 0.2}}
    """

    encoder: str
    decoder: str
    classes: tuple[str, ...]
    channels: int = 3
    options: Mapping[str, Any] | None = None
    head: NetworkHead | None = None

    @classmethod
    def of_recipe(cls, encoder: str, decoder: str, classes: Sequence[str], recipe: Recipe) -> Self:
        """Return the network that a recipe trains."""
        # As they come back from a checkpoint, so that the two can be compared
        options = json.loads(json.dumps(recipe.decoder_options)) or None
        head = recipe.head and NetworkHead(recipe.head.pooling, recipe.head.dropout)
        return cls(encoder, decoder, tuple(classes), CHANNELS[recipe.channels], options, head)

    @classmethod
    def of(cls, metadata: Mapping[str, Any], path: str | Path) -> Self:
        """Return the header of the metadata of a file, as :func:`parse_metadata` returns them.

        Raises
        ------
        DamagedFileError : if they are not those of a checkpoint.
        """
        if not {"encoder", "decoder", "classes"} <= set(metadata):
            raise DamagedFileError(f"{path}: not a checkpoint of cloudseg; train this run again")
        classes, head = tuple(metadata["classes"]), metadata.get("head")
        return cls(
            metadata["encoder"],
            metadata["decoder"],
            classes,
            metadata.get("channels", 3),
            metadata.get("options"),
            None if head is None else NetworkHead(**head),
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """The values that a checkpoint is written with. What is at its default is left out, as in older files."""
        metadata: dict[str, Any] = {"encoder": self.encoder, "decoder": self.decoder, "classes": list(self.classes)}
        if self.channels != 3:
            metadata["channels"] = self.channels
        if self.options is not None:
            metadata["options"] = dict(self.options)
        if self.head is not None:
            metadata["head"] = self.head._asdict()
        return metadata

    @property
    def has_head(self) -> bool:
        """Whether the network says of an image as a whole which classes are in it."""
        return self.head is not None or not self.has_masks

    @property
    def has_masks(self) -> bool:
        """Whether the network says of each pixel which classes it is of."""
        return self.decoder != CLASSIFIER

    def is_like(self, other: Self) -> bool:
        """Return whether a network of one header takes the weights of the other: all but the classes' names agree."""
        return len(self.classes) == len(other.classes) and dataclasses.replace(self, classes=other.classes) == other

    def require(
        self, path: str | Path, classes: Sequence[str] | None = None, network: Mapping[str, Any] | None = None
    ) -> None:
        """Raise unless a checkpoint is of some classes and of a network; None takes any.

        Parameters
        ----------
        path : the checkpoint, for the message.
        classes : names that the planes must have, in this order.
        network : ``encoder`` and ``decoder``, or some other of its fields.

        Raises
        ------
        DamagedFileError : with what was expected and what the file holds.
        """
        if network is not None and (got := {key: getattr(self, key) for key in network}) != network:
            raise DamagedFileError(f"{path}: expected a network of {network}, got one of {got}; train this run again")
        if classes is not None and self.classes != tuple(classes):
            raise DamagedFileError(
                f"{path}: expected the classes {list(classes)}, got {list(self.classes)}; train this run again"
            )


def parse_metadata(text: str, path: str | Path) -> dict[str, Any]:
    """Return the metadata of a checkpoint, checked.

    Parameters
    ----------
    text : JSON.
    path : the file that it comes from, for the message.

    Returns
    -------
    dict : those of the keys ``encoder``, ``decoder``, ``classes``, ``channels``, ``options``, ``head``, ``epoch``,
        ``averaged``, ``start`` and ``checksum`` that are there, as they were written.

    Raises
    ------
    DamagedFileError : if the text is not a mapping in JSON, or one of these keys is not what training writes.

    Examples
    --------
    >>> parse_metadata('{"encoder": "resnet34", "channels": 1}', "best.safetensors")
    {'encoder': 'resnet34', 'channels': 1}
    >>> parse_metadata('{"channels": [3]}', "a.safetensors")
    Traceback (most recent call last):
    ...
    cloudseg.errors.DamagedFileError: a.safetensors: its metadata are no checkpoint's: channels: ... got [3]
    """
    try:
        metadata = json.loads(text) if isinstance(text, str) else text
        if not isinstance(metadata, dict):
            raise ValueError(f"expected a mapping, got {metadata!r:.60}")
        for name, value in metadata.items():
            _require_sound(name, value)
        if "options" in metadata:
            _require_options(metadata["options"], metadata.get("decoder"))
    except (ValueError, RecursionError) as error:
        raise DamagedFileError(f"{path}: its metadata are no checkpoint's: {error}") from None
    return metadata


def _require_sound(name: str, value: Any) -> None:
    """Raise unless the value of a key of the metadata is one that training or `initial_weights` writes."""
    match name:
        case "encoder":
            require_encoder(value)
        case "decoder":
            require(value, DECODERS, "decoder")
        case "classes":
            names = value if isinstance(value, list) else []
            if not 1 <= len(names) <= MOST_CLASSES or not all(isinstance(each, str) for each in names):
                raise ValueError(f"classes: expected a list of 1 to {MOST_CLASSES} names, got {value!r:.60}")
        case "channels" if type(value) is not int or value not in (1, 3):
            raise ValueError(f"channels: expected 1 or 3, got {value!r:.60}")
        case "epoch" | "checksum" if type(value) is not int or not 0 <= value < 2**32:
            raise ValueError(f"{name}: expected a whole number from 0, got {value!r:.60}")
        case "start" if not isinstance(value, str):
            raise ValueError(f"start: expected text, got {value!r:.60}")
        case "averaged" if not isinstance(value, list) or not all(type(epoch) is int for epoch in value):
            raise ValueError(f"averaged: expected the numbers of epochs, got {value!r:.60}")
        case "head":
            _require_head(value)


def _require_head(value: Any) -> None:
    head = value if isinstance(value, dict) and set(value) == set(NetworkHead._fields) else {}
    pooling, dropout = head.get("pooling"), head.get("dropout")
    number = type(dropout) in (int, float) and 0 <= dropout < 1
    if not isinstance(pooling, str) or pooling not in POOLINGS or not number:
        raise ValueError(f"head: expected a pooling, avg or max, and a dropout below 1, got {value!r:.60}")


def _require_options(value: Any, decoder: str | None) -> None:
    names = value if isinstance(value, dict) and len(value) <= MOST_OPTIONS else {}
    if decoder is None or not names or any(len(name) > LONGEST_OPTION for name in names):
        raise ValueError(f"options: expected some options of a decoder, got {value!r:.60}")
    if problems := decoder_option_problems(decoder, value):
        raise ValueError(f"options: {problems[0]}")


def network_start_problem(source: NetworkHeader, target: NetworkHeader) -> str | None:
    """Return why a network cannot start from the whole of another, or None.

    Last layers are no reason: those of other classes or another shape are drawn anew.

    Examples
    --------
    >>> coarse = NetworkHeader("resnet34", "fpn", ("Fish",), options={"finest_level": False})
    >>> network_start_problem(NetworkHeader("resnet34", "fpn", ("brightness",)), coarse)
    'expected a network with finest_level false, got one with true'
    """
    if (source.encoder, source.decoder) != (target.encoder, target.decoder):
        return f"expected {target.encoder} with {target.decoder}, got {source.encoder} with {source.decoder}"
    if (source.channels, target.channels) == (1, 3):
        return "expected a network that sees colours, got one that sees grey"
    wanted, got = (weighty_options(each.decoder, each.options) for each in (target, source))
    for name, value in wanted.items():
        if value != got[name]:
            return f"expected a network with {name} {json.dumps(value)}, got one with {json.dumps(got[name])}"
    return None


def start_problem(path: str | Path, encoder: str) -> str | None:
    """Return why a file cannot be the initial weights of an encoder, as far as its header tells, or None.

    Parameters
    ----------
    path : a file.
    encoder : name of the encoder.
    """
    try:
        with Path(path).open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            rest = Path(path).stat().st_size - 8
            if not 2 <= length <= min(rest, LONGEST_HEADER):
                raise ValueError("the header is cut short")
            header = json.loads(file.read(length))
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        if not tensors or max(entry["data_offsets"][1] for entry in tensors.values()) != rest - length:
            raise ValueError("no tensors in it" if not tensors else "it is cut short")
        written = header.get("__metadata__", {}).get(KEY, "{}")
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror})"
    except (ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        reason = str(error) if type(error) is ValueError else "its header is no such table"
        return f"{path}: no safetensors file ({reason}); save the weights with safetensors.torch.save_file"
    try:
        got = parse_metadata(written, path).get("encoder", encoder)
    except ValueError as error:
        return str(error)
    return None if got == encoder else f"{path}: expected weights of {encoder}, got those of {got}"
