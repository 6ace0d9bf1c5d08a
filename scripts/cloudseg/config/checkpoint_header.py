"""The header of a safetensors file, read without torch and checked before it is used.

A checkpoint may come from somebody else. Its header must name a known encoder and decoder, since timm takes some names
for a hub or a folder to load from, and every other value must be one that training writes.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from cloudseg.config.classes import MOST_CLASSES
from cloudseg.config.decoders import DECODERS
from cloudseg.config.encoders import require_encoder
from cloudseg.config.names import require
from cloudseg.errors import DamagedFileError

KEY = "cloudseg"  # the one key of the safetensors metadata; its value is JSON
LONGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors library


@dataclasses.dataclass(frozen=True)
class NetworkHeader:
    """The network of a checkpoint, as its metadata describe it.

    Parameters
    ----------
    encoder, decoder : names of smp.
    classes : names of its planes.
    channels : of the images that it takes, 3 or 1.

    Examples
    --------
    >>> NetworkHeader("resnet34", "fpn", ("Fish", "Sugar")).metadata
    {'encoder': 'resnet34', 'decoder': 'fpn', 'classes': ['Fish', 'Sugar']}
    """

    encoder: str
    decoder: str
    classes: tuple[str, ...]
    channels: int = 3

    @classmethod
    def of(cls, metadata: Mapping[str, Any], path: str | Path) -> Self:
        """Return the header of the metadata of a file, as :func:`parse_metadata` returns them.

        Raises
        ------
        DamagedFileError : if they are not those of a checkpoint.
        """
        if not {"encoder", "decoder", "classes"} <= set(metadata):
            raise DamagedFileError(f"{path}: not a checkpoint of cloudseg; train this run again")
        channels = metadata.get("channels", 3)
        return cls(metadata["encoder"], metadata["decoder"], tuple(metadata["classes"]), channels)

    @property
    def metadata(self) -> dict[str, Any]:
        """The values that a checkpoint is written with. Three channels are left out, as in older files."""
        metadata = {"encoder": self.encoder, "decoder": self.decoder, "classes": list(self.classes)}
        return metadata if self.channels == 3 else metadata | {"channels": self.channels}

    def require(
        self, path: str | Path, classes: Sequence[str] | None = None, network: Mapping[str, str] | None = None
    ) -> None:
        """Raise unless a checkpoint is of some classes and of a network; None takes any.

        Parameters
        ----------
        path : the checkpoint, for the message.
        classes : names that the planes must have, in this order.
        network : ``encoder`` and ``decoder``, or one of them.

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
    dict : those of the keys ``encoder``, ``decoder``, ``classes``, ``channels``, ``epoch``, ``start`` and ``checksum``
        that are there, as they were written.

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
