"""Write the state of a network to a safetensors file with a checksum, and read it into a network key by key."""

import json
from pathlib import Path
from typing import Any

import google_crc32c
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from cloudseg.config.checkpoint_header import KEY, parse_metadata
from cloudseg.errors import ConfigError, DamagedFileError
from cloudseg.storage.files import advice, atomic


def read_state(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a safetensors file.

    Parameters
    ----------
    path : the file.

    Returns
    -------
    (dict, dict) : key to tensor on the CPU, and the metadata that :func:`write_state` was given (empty for files that
        it did not write).

    Raises
    ------
    DamagedFileError : if the file is cut short, is no safetensors file, fails the checksum of :func:`write_state`, or
        has the metadata of no checkpoint.
    """
    try:
        with safe_open(path, framework="pt") as file:
            written = (file.metadata() or {}).get(KEY, "{}")
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise
    except Exception as error:  # safetensors raises a class of its own that it does not export
        raise DamagedFileError(
            f"{path}: not a whole safetensors file ({error}); if a job made it, {advice()}"
        ) from error
    metadata = parse_metadata(written, path)
    checksum = metadata.pop("checksum", None)  # absent in files that write_state did not write
    if checksum not in (None, _checksum(state, metadata)):
        raise DamagedFileError(f"{path}: its content is not what was written (checksum); if a job made it, {advice()}")
    return state, metadata


def write_state(state: dict[str, torch.Tensor], path: str | Path, metadata: dict[str, Any]) -> None:
    """Write a safetensors file atomically; the same state gives the same bytes.

    Parameters
    ----------
    state : key to tensor.
    path : the file, replaced as a whole.
    metadata : plain values, written as one JSON text: safetensors writes several entries in a random order.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    metadata = metadata | {"checksum": _checksum(state, metadata)}
    with atomic(path) as temporary:
        save_file(state, temporary, metadata={KEY: json.dumps(metadata, sort_keys=True)})


def _checksum(state: dict[str, torch.Tensor], metadata: dict[str, Any]) -> int:
    """Return the CRC-32C of metadata and tensors; safetensors itself has no checksum."""
    crc = google_crc32c.value(json.dumps(metadata, sort_keys=True).encode())
    for key, value in sorted(state.items()):
        crc = google_crc32c.extend(crc, f"{key} {value.dtype} {list(value.shape)}".encode())
        crc = google_crc32c.extend(crc, value.contiguous().view(-1).view(torch.uint8).numpy())
    return crc


def load_strictly(module: nn.Module, state: dict[str, torch.Tensor], source: str | Path) -> None:
    """Load a state whose keys and shapes are exactly the module's, or say how they differ.

    Parameters
    ----------
    module : changed in place.
    state : key to tensor.
    source : the file that the state came from, for the message.

    Raises
    ------
    ConfigError : with the first key of each kind that does not fit.
    """
    known = module.state_dict()
    missing = [key for key in known if key not in state]
    unknown = [key for key in state if key not in known]
    shapes = [key for key in known if key in state and state[key].shape != known[key].shape]
    if missing or unknown or shapes:
        parts = [
            f"{len(keys)} keys {what} (first: {keys[0]})"
            for keys, what in (
                (missing, "are missing"),
                (unknown, "are not known"),
                (shapes, "differ in shape"),
            )
            if keys
        ]
        raise ConfigError(
            f"{source}: does not fit this network: {'; '.join(parts)}; "
            "expected the file of the same encoder, decoder and channels, with the same `decoder_options`, written by "
            "the same version of smp and timm"
        )
    # Some encoders of smp override load_state_dict, to read third-party files, without the argument `strict`
    nn.Module.load_state_dict(module, state, strict=True)
