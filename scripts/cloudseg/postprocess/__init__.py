"""From probabilities to masks, run-length text and scores: fast, exact, and usable on its own.

Probabilities are uint8, 255 is certainty. Average two members, find a good threshold and minimum size, write the text:

>>> import numpy as np
>>> y, x = np.mgrid[:96, :128]
>>> blob = 255 * np.exp(-((y - 40) ** 2 + (x - 60) ** 2) / 500)
>>> speck = 200 * ((y == 80) & (x == 10))
>>> members = [np.maximum(blob, speck).astype(np.uint8)[None, None], blob.astype(np.uint8)[None, None]]
>>> truth = (y - 40) ** 2 + (x - 60) ** 2 < 300
>>> mean = blend(members)
>>> surface = dice_surface(mean, truth[None, None], [0, 50])
>>> best, size = np.unravel_index(surface[0].argmax(), surface[0].shape)
>>> int(best), [0, 50][size], float(surface[0, best, size])
(139, 0, 1.0)
>>> [text] = segment(mean, levels=best, min_sizes=50)
>>> text == encode_rle(truth), text[:20]
(True, '4166 7 4259 13 4353 ')
>>> bool((decode_rle(text, truth.shape) == remove_small_components(truth, 50)).all())
True

Read the files in this order: `runs` (from pixels to runs), `rle` (text), `components`, `cut`, `segment`, then `blend`
and `histograms`, then `surface` with `sweep`, `accounts`, `pixels` and `basins`, and `additions` with `cells`, by
which members are searched for. `intrinsics` holds the machine instructions, `compiling` the cache, `arguments` the
checks.
"""

from cloudseg.postprocess.blend import blend
from cloudseg.postprocess.components import (
    component_areas,
    fill_holes,
    keep_seeded_components,
    remove_small_components,
)
from cloudseg.postprocess.cut import NOTHING, Cut, level
from cloudseg.postprocess.histograms import plane_histograms
from cloudseg.postprocess.rle import decode_rle, encode_rle
from cloudseg.postprocess.segment import segment
from cloudseg.postprocess.surface import dice_sums, dice_surface, dice_values

__all__ = [
    "NOTHING",
    "Cut",
    "blend",
    "component_areas",
    "decode_rle",
    "dice_sums",
    "dice_surface",
    "dice_values",
    "encode_rle",
    "fill_holes",
    "keep_seeded_components",
    "level",
    "plane_histograms",
    "remove_small_components",
    "segment",
]
