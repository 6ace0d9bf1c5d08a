"""What each decoder asks of an image's size. Read at parse time, so nothing here imports torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Decoder:
    """The demands of one decoder of segmentation-models-pytorch with its default settings."""

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
}
"""Decoders by smp's own lower-case names; a test holds this table against the installed smp."""
