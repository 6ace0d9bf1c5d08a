"""Write the state of a network to a safetensors file with a checksum, and read it into a network key by key."""

import json
from pathlib import Path

import google_crc32c
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from cloudseg.config.checkpoint_header import KEY, parse_metadata
from cloudseg.errors import ConfigError, DamagedFileError
from cloudseg.storage.files import advice, atomic


def read_state(path: str | Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Read a safetensors file.

    Parameters
    ----------
    path : the file.

    Returns
    -------
    (dict, dict) : key to tensor on the CPU, and what :func:`write_state` was told about it (empty for the
        files of others).

    Raises
    ------
    UserError : if the file is cut short, is no safetensors file, fails the checksum of :func:`write_state`, or says
        of itself what no checkpoint says.
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
    about = parse_metadata(written, path)
    checksum = about.pop("checksum", None)  # the files of others have none
    if checksum not in (None, _checksum(state, about)):
        raise DamagedFileError(f"{path}: its content is not what was written (checksum); if a job made it, {advice()}")
    return state, about


def write_state(state: dict[str, torch.Tensor], path: str | Path, about: dict) -> None:
    """Write a safetensors file atomically; the same state gives the same bytes.

    Parameters
    ----------
    state : key to tensor.
    path : the file, replaced as a whole.
    about : plain values, kept as one JSON text: safetensors writes several in a random order.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in state.items()}
    about = about | {"checksum": _checksum(state, about)}
    with atomic(path) as temporary:
        save_file(state, temporary, metadata={KEY: json.dumps(about, sort_keys=True)})


def _checksum(state: dict[str, torch.Tensor], about: dict) -> int:
    """Return the CRC-32C of names, types, shapes and values of tensors, which safetensors does not guard."""
    crc = google_crc32c.value(json.dumps(about, sort_keys=True).encode())
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
            "expected the file of the same encoder, decoder and channels, written by the same version of smp and timm"
        )
    # Some encoders of smp have a load_state_dict of their own, for the files of others, that knows no `strict`
    nn.Module.load_state_dict(module, state, strict=True)
