"""The encoders of segmentation-models-pytorch and timm, as a table, so that a typo is found without importing torch.

    python -m cloudseg.config.encoders     # makes the table anew; a test holds it against the installed libraries

A name outside the table never reaches timm, which takes ``hf-hub:`` and ``local-dir:`` names for places to load from.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from cloudseg.config.names import require

TABLE = Path(__file__).with_name("encoders.json")


@cache
def encoders() -> dict[str, bool]:
    """Return whether there are ImageNet weights for each encoder, by its name in an experiment sheet.

    A model of timm is there under its own name with ``tu-`` before it, and under that of each of its sets of weights.

    Examples
    --------
    >>> encoders()["resnet34"], encoders()["tu-resnet18.a1_in1k"], encoders()["tu-test_resnet"]
    (True, True, True)
    """
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    known = {name: bool(weights) for name, weights in table["smp"].items()}
    for name, tags in table["timm"].items():
        known[f"tu-{name}"] = bool(tags)
        known |= {f"tu-{name}.{tag}": True for tag in tags}
    return known


def require_encoder(encoder: Any) -> None:
    """Raise unless smp, or timm by a ``tu-`` name, has an encoder.

    Parameters
    ----------
    encoder : such as ``efficientnet-b2``, ``tu-resnet18`` or ``tu-resnet18.a1_in1k``.

    Raises
    ------
    ValueError : with the nearest names of both.

    Examples
    --------
    >>> require_encoder("efficientnet_b2")
    Traceback (most recent call last):
    ...
    cloudseg.errors.ConfigError: no encoder is called 'efficientnet_b2'; nearest: efficientnet-b2, ...
    """
    # Of timm's models with a tag only those that match are near enough, so they need not be looked through
    known = encoders()
    encoder = encoder if isinstance(encoder, str) else repr(encoder)
    require(encoder, known if encoder in known else [name for name in known if "." not in name], "encoder")


def installed_table() -> dict[str, dict[str, Any]]:
    """Return the table as the installed libraries have it: smp's weights, and timm's tags of weights."""
    import timm
    from segmentation_models_pytorch.encoders import encoders as smp_encoders

    smp = {name: int("imagenet" in smp_encoders[name]["pretrained_settings"]) for name in sorted(smp_encoders)}
    tags: dict[str, list[str]] = {name: [] for name in sorted(timm.list_models())}
    for name in sorted(timm.list_models(pretrained=True)):
        model, _, tag = name.partition(".")
        tags[model] += [tag] if tag else []
    return {"smp": smp, "timm": tags}


if __name__ == "__main__":
    parts = []
    for library, models in installed_table().items():
        rows = ",\n".join(f"    {json.dumps(name)}: {json.dumps(value)}" for name, value in models.items())
        parts.append(f"  {json.dumps(library)}: {{\n{rows}\n  }}")
    TABLE.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")
