import numpy as np
import torch

from cloudseg.models.probabilities import quantise


def test_quantising_is_floor_from_float32():
    p = np.concatenate([np.linspace(0, 1, 20001), np.arange(256) / 255, (np.arange(255) + 0.5) / 255])
    p = p.astype(np.float32)
    expected = np.floor(np.float32(255) * p + np.float32(0.5)).astype(np.uint8)
    assert np.array_equal(quantise(torch.from_numpy(p)).numpy(), expected)
    assert quantise(torch.tensor([1.0000001, -1e-9])).tolist() == [255, 0]
