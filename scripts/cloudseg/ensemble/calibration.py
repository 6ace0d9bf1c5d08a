"""How often pixels of a probability are in the truth: reliability, exactly, since a probability is one of 256 bytes."""

import cv2
import numpy as np
import pandas as pd

BINS = 16  # of a reliability diagram, each of 16 bytes
MOST_COUNTED = 2**24  # pixels that OpenCV, which counts in float32, counts exactly


def byte_histograms(planes: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Count the pixels of each byte value, outside and inside of the truth.

    Parameters
    ----------
    planes : uint8 (C, H, W); 255 is certainty.
    truth : uint8 (C, H, W) of 0 and 1.

    Returns
    -------
    int64 (C, 2, 256).

    Examples
    --------
    >>> counted = byte_histograms(np.array([[[255, 255, 7]]], np.uint8), np.array([[[1, 0, 0]]], np.uint8))
    >>> counted[0, :, [7, 255]].tolist()
    [[1, 0], [1, 1]]
    """
    counts = np.zeros((len(planes), 2, 256), np.int64)
    rows = max(1, MOST_COUNTED // planes.shape[2])
    for count, plane, mask in zip(counts, planes, truth, strict=True):
        for first in range(0, len(plane), rows):
            part, inside = plane[first : first + rows], mask[first : first + rows]
            count[1] += _histogram(part, inside)
            count[0] += _histogram(part, None)
    counts[:, 0] -= counts[:, 1]
    return counts


def _histogram(plane: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    return cv2.calcHist([plane], [0], mask, [256], [0, 256]).reshape(-1).astype(np.int64)


def reliability(histogram: np.ndarray) -> pd.DataFrame:
    """Return the points of a reliability diagram, those with any pixel.

    Parameters
    ----------
    histogram : (2, 256) pixels outside and inside of the truth by byte value.

    Returns
    -------
    DataFrame : probability (the mean of the bin), observed (the share of pixels that are in the truth), pixels.

    Examples
    --------
    >>> counts = np.zeros((2, 256), int); counts[:, 51] = 30, 10
    >>> reliability(counts).values.tolist()
    [[0.2, 0.25, 40.0]]
    """
    binned = histogram.reshape(2, BINS, -1).sum(axis=2)
    pixels = binned.sum(axis=0)
    weighted = (histogram.sum(axis=0) * np.arange(256) / 255).reshape(BINS, -1).sum(axis=1)
    some = pixels > 0
    return pd.DataFrame(
        {
            "probability": weighted[some] / pixels[some],
            "observed": binned[1][some] / pixels[some],
            "pixels": pixels[some],
        }
    )


def calibration_error(histogram: np.ndarray) -> float:
    """Return the expected calibration error: the mean distance of probability and observed share, over pixels.

    Parameters
    ----------
    histogram : as of `reliability`, whose bins are used.

    Returns
    -------
    float : 0 to 1; NaN where there is no pixel.

    Examples
    --------
    >>> counts = np.zeros((2, 256), int); counts[:, 51] = 30, 10; counts[0, 0] = 40
    >>> round(calibration_error(counts), 4)
    0.025
    """
    bins = reliability(histogram)
    if bins.empty:
        return float("nan")
    return float(np.average((bins["probability"] - bins["observed"]).abs(), weights=bins["pixels"]))
