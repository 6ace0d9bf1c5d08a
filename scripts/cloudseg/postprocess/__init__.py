"""From probabilities to masks, run-length text and scores: fast, exact, and usable on its own."""

from cloudseg.postprocess.blend import blend
from cloudseg.postprocess.components import remove_small_components
from cloudseg.postprocess.rle import decode_rle, encode_rle
from cloudseg.postprocess.segment import level, segment
from cloudseg.postprocess.surface import dice_sums, dice_surface

__all__ = [
    "blend",
    "decode_rle",
    "dice_sums",
    "dice_surface",
    "encode_rle",
    "level",
    "remove_small_components",
    "segment",
]
