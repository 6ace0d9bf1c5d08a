"""Which encoders go with which decoders and sizes, as a table, so that a sheet is checked without importing torch.

    python -m cloudseg.config.combinations     # makes the table anew, in an hour; a test holds rows of it against smp

What is said of an encoder, where it is not like a ResNet, which goes with all decoders but `dpt` at any size:

- ``undilated``: its stages cannot keep their resolution, which the decoders with an output stride ask for;
- ``uneven``: its features are not padded, so that they are not the halves of each other that most decoders take;
- ``patches``: a vision transformer, whose features all have one resolution; ``other patches``: one that `dpt`, which
  brings them to 1/4 to 1/32 of the image, does not take;
- ``resized``: a vision transformer that takes any size once timm is told so;
- ``nothing``: smp takes it with no decoder, nor do we as a classifier;
- ``only 224``, ``multiples of 224``: the sides of its images; ``even multiples of 64``: those from which its features
  are halves of each other; ``three stages of any size``: its first stages, which `pspnet` takes, are not so particular.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from cloudseg.config.decoders import CLASSIFIER, decoder_options, demands

TABLE = Path(__file__).with_name("combinations.json")
RESIZING = ("unet", "segformer", CLASSIFIER)  # decoders that resize all features to those of the image
RESIZING_COARSE = (*RESIZING, "pan", "upernet")  # decoders that resize features to those of 1/4
PATCHES = ("dpt", CLASSIFIER)  # decoders that take features of one resolution
NOT_MIX = ("unetplusplus", "linknet")  # decoders that smp refuses with its own mit_b*, whose second features are empty

SIZE = (160, 416)  # sides of 5 and 13 times 32: whatever takes them takes any multiple of 32
EVEN_MULTIPLE = 64
EVEN_SIZE = (3 * EVEN_MULTIPLE, 2 * EVEN_MULTIPLE)


def combination_problem(
    encoder: str, decoder: str, options: Mapping[str, Any] | None = None, size: tuple[int, int] | None = None
) -> str | None:
    """Return why an encoder does not go with a decoder, or not with images of a size, or None.

    Parameters
    ----------
    encoder, decoder : known names.
    options : of the decoder.
    size : height and width of the images in pixels, where they are known.

    Examples
    --------
    >>> combination_problem("mit_b0", "unetplusplus")
    'smp has no unetplusplus on mit_b0; take another decoder'
    >>> combination_problem("tu-vit_small_patch16_224.augreg_in21k", "fpn")
    'fpn takes features of several resolutions, and those of tu-vit_small_patch16_224 have one; take dpt or classifier'
    >>> combination_problem("tu-swin_tiny_patch4_window7_224", "fpn", size=(320, 480))
    'tu-swin_tiny_patch4_window7_224 takes images of 224x224 alone, got 320x480'
    >>> combination_problem("resnet34", "fpn", size=(320, 480)) is None
    True
    """
    name, _, _ = encoder.partition(".")
    facts = _facts(name)
    if decoder in NOT_MIX and name.startswith("mit_b"):
        return f"smp has no {decoder} on {name}; take another decoder"
    if "nothing" in facts:
        return f"smp takes {name} with no decoder; take another encoder"
    if problem := _resolution_problem(name, decoder, facts):
        return problem
    stride = _output_stride(decoder, options)
    if stride < 32 and "undilated" in facts:
        hint = " or `decoder_options: {encoder_output_stride: 32}`" if decoder == "pan" else ""
        return (
            f"{decoder} asks for an output stride of {stride}, which {name} does not have; take another decoder{hint}"
        )
    return None if size is None else _size_problem(name, decoder, options, size, facts)


def takes_any_size(encoder: str) -> bool:
    """Return whether an encoder is a vision transformer that takes any size where timm is told ``dynamic_img_size``.

    Examples
    --------
    >>> takes_any_size("tu-vit_small_patch16_224.augreg_in21k"), takes_any_size("resnet34")
    (True, False)
    """
    return "resized" in _facts(encoder.partition(".")[0])


def _resolution_problem(name: str, decoder: str, facts: list[str]) -> str | None:
    one = "patches" in facts or "other patches" in facts
    if one and decoder not in PATCHES:
        return f"{decoder} takes features of several resolutions, and those of {name} have one; take dpt or classifier"
    if decoder == "dpt" and not one:
        return f"dpt takes vision transformers of timm, such as tu-vit_small_patch16_224, got {name}"
    if decoder == "dpt" and "other patches" in facts:
        return f"dpt takes vision transformers with patches of 8, 16 or 32 pixels, which {name} does not have"
    if "uneven" in facts and decoder not in RESIZING:
        return f"the features of {name} are not halves of each other, as {decoder} needs them; take unet or segformer"
    return None


def _output_stride(decoder: str, options: Mapping[str, Any] | None) -> int:
    """Return how many pixels of the image a pixel of the encoder's last features covers, of all its five stages."""
    return demands(decoder, options).stride if "encoder_output_stride" in decoder_options(decoder) else 32


def _size_problem(
    name: str, decoder: str, options: Mapping[str, Any] | None, size: tuple[int, int], facts: list[str]
) -> str | None:
    if decoder == "pspnet" and "three stages of any size" in facts:
        return None
    stride, got = demands(decoder, options).stride, f"got {size[0]}x{size[1]}"
    padded = [-(-side // stride) * stride for side in size]
    for fact in facts:
        words, _, number = fact.rpartition(" ")
        if words == "only" and padded != [int(number)] * 2:
            return f"{name} takes images of {number}x{number} alone, {got}"
        if words == "multiples of" or (words == "even multiples of" and decoder not in RESIZING_COARSE):
            multiple = int(number) * _output_stride(decoder, options) // 32  # features of 1/16 are twice those of 1/32
            if any(side % multiple for side in padded):
                return f"{name} with {decoder} takes images whose sides are multiples of {multiple}, {got}"
    return None


@cache
def _table() -> dict[str, list[str]]:
    return json.loads(TABLE.read_text(encoding="utf-8"))


def _facts(name: str) -> list[str]:
    return _table().get(name, [])


def examined(encoder: str) -> list[str]:
    """Return what is to be said of an encoder, by building and running it on torch's device ``meta``."""
    staged = _built(encoder)
    return list(_facts_of_patches(encoder) if staged is None else _facts_of_stages(encoder, staged))


def _facts_of_stages(encoder: str, staged: Any) -> Iterator[str]:
    sides = _sides(_runner(staged), encoder)
    if sides is None:
        yield "nothing"
        return
    size = _fitting(sides)
    if not _halves(staged, size):
        sides = [f"even multiples of {EVEN_MULTIPLE}"] if _halves(staged, EVEN_SIZE) else ["uneven"]
    yield from sides
    dilated = [_built(encoder, output_stride=stride) for stride in (8, 16)]
    if not all(network is not None and _runs(_runner(network), size) for network in dilated):
        yield "undilated"
    first = _built(encoder, depth=3)
    if sides and _runs(_runner(first), SIZE) and _halves(first, SIZE):
        yield "three stages of any size"


def _facts_of_patches(encoder: str) -> Iterator[str]:
    resized = {"dynamic_img_size": True}
    network = encoder.startswith("tu-") and (_built_of_patches(encoder, resized) or _built_of_patches(encoder, {}))
    # A classifier pads images to whole patches
    sides = network and _sides(_runner(network, network.output_stride), encoder)
    if not network or sides is None:
        yield "nothing"
        return
    factors = [stride / 2 ** (level + 2) for level, stride in enumerate(network.output_strides)]
    whole = (
        all(factor.is_integer() or (1 / factor).is_integer() for factor in factors) and 32 % network.output_stride == 0
    )
    yield "patches" if whole else "other patches"
    yield from sides
    if _built_of_patches(encoder, resized):
        yield "resized"


def _built(encoder: str, **arguments: Any) -> Any:
    """Return an encoder as smp builds it for most decoders, or None."""
    import segmentation_models_pytorch as smp
    import torch

    try:
        with torch.device(_device(encoder)):
            return smp.encoders.get_encoder(encoder, weights=None, **arguments).eval()
    except Exception:  # of many kinds
        return None


def _built_of_patches(encoder: str, arguments: Mapping[str, Any]) -> Any:
    """Return an encoder as smp builds it for `dpt`, or None."""
    import torch
    from segmentation_models_pytorch.encoders.timm_vit import TimmViTEncoder

    try:
        with torch.device("meta"):
            return TimmViTEncoder(encoder.removeprefix("tu-"), pretrained=False, **arguments).eval()
    except Exception:  # of many kinds
        return None


def _device(encoder: str) -> str:
    return "cpu" if encoder.startswith("mit_b") else "meta"  # whose depths are read from a tensor


def _features(network: Any, size: tuple[int, int]) -> list[Any]:
    import torch

    device = next(network.parameters()).device
    with torch.no_grad():
        features = network(torch.zeros(1, 3, *size, device=device))
    return features[0] if isinstance(features, tuple) else features


def _runner(network: Any, stride: int = 1) -> Callable[[tuple[int, int]], Any]:
    return lambda size: _features(network, tuple(-(-side // stride) * stride for side in size))


def _runs(run: Callable[[tuple[int, int]], Any], size: tuple[int, int]) -> bool:
    try:
        run(size)
    except Exception:  # of many kinds
        return False
    return True


def _halves(network: Any, size: tuple[int, int]) -> bool:
    features = dict(enumerate(_features(network, size)))
    return all(
        tuple(features[level].shape[-2:]) == tuple(side >> level for side in size) for level in features if level > 1
    )


def _sides(run: Callable[[tuple[int, int]], Any], encoder: str) -> list[str] | None:
    """Return what sides images must have, in words, or None where none was found that an encoder takes."""
    import timm

    if _runs(run, SIZE):
        return []
    config = timm.get_pretrained_cfg(encoder.removeprefix("tu-")) if encoder.startswith("tu-") else None
    native = config.input_size[-1] if config and config.input_size else 224
    for multiple in (64, 128, native):
        if _runs(run, (3 * multiple, 2 * multiple)):
            return [f"multiples of {multiple}"]
    return [f"only {native}"] if _runs(run, (native, native)) else None


def _fitting(sides: list[str]) -> tuple[int, int]:
    """Return a size that an encoder takes."""
    if not sides:
        return SIZE
    words, _, number = sides[0].rpartition(" ")
    return (int(number), int(number)) if words == "only" else (3 * int(number), 2 * int(number))


if __name__ == "__main__":
    from cloudseg.config.encoders import installed_table

    table = installed_table()
    names = [*table["smp"], *(f"tu-{model}" for model in table["timm"])]
    found = {encoder: facts for encoder in names if (facts := examined(encoder))}
    rows = ",\n".join(f"  {json.dumps(encoder)}: {json.dumps(facts)}" for encoder, facts in found.items())
    TABLE.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")
