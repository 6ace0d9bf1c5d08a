"""How much work the encoders are, as a table, so that hours can be guessed without importing torch.

    python -m cloudseg.config.encoder_work     # makes the table anew, in minutes; a test holds rows of it against smp

What a network takes follows from two numbers: its multiplications, and the values that its layers write, which count
for more where a layer multiplies little, as those of the EfficientNets do.
"""

import json
import statistics
from functools import cache
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).with_name("encoder_work.json")
SIDE = 256  # pixels of the image that the generator counts with


class NetworkWork(NamedTuple):
    """What a forward pass of a network, or a part of one, does for each pixel of the image."""

    multiplications: float
    """Thousands of multiply-adds."""
    values: float
    """Values that convolutions and linear layers write."""

    def __add__(self, other: tuple[float, ...]) -> "NetworkWork":
        return NetworkWork(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


@cache
def encoder_work(encoder: str) -> NetworkWork:
    """Return the work of an encoder; of one that is not in the table, the median of all.

    Examples
    --------
    >>> encoder_work("resnet34"), encoder_work("tu-resnet34.a1_in1k") == encoder_work("tu-resnet34")
    (NetworkWork(multiplications=73.0, values=74.5), True)
    """
    table = _table()
    untagged = encoder.partition(".")[0]
    found = table.get(encoder) or table.get(untagged)
    return NetworkWork(*found) if found else NetworkWork(*map(statistics.median, zip(*table.values(), strict=True)))


@cache
def _table() -> dict[str, list[float]]:
    return json.loads(TABLE.read_text(encoding="utf-8"))


def counted(encoder: str) -> NetworkWork:
    """Count the work of an encoder as smp builds it, without its weights or any arithmetic."""
    import segmentation_models_pytorch as smp
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network = smp.encoders.get_encoder(encoder, weights=None).eval()
        image = torch.zeros(1, 3, SIDE, SIDE)
    written: list[int] = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(lambda _layer, _inputs, output: written.append(output.numel()))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(image)
    counts = counter.get_total_flops() / 2000, sum(written)
    return NetworkWork(*(float(f"{count / SIDE**2:.3g}") for count in counts))


if __name__ == "__main__":
    from cloudseg.config.encoders import installed_table

    names = installed_table()
    rows = {}
    for name in [*names["smp"], *(f"tu-{model}" for model in names["timm"])]:
        try:
            rows[name] = counted(name)
        except Exception as error:  # of many kinds: smp takes no such encoder, or none of this size
            print(f"{name}: {error}")
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items())
    TABLE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
