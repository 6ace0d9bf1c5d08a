import cv2
import numpy as np
import torch

from cloudseg.models.preprocessing import normalise


def test_normalised_images():
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    expected = (image / 255 - mean) / std
    result = normalise(torch.from_numpy(image), mean, std)
    assert result.is_contiguous(memory_format=torch.channels_last)
    np.testing.assert_allclose(result.numpy(), expected.transpose(0, 3, 1, 2), atol=2e-6)


def test_a_grey_image_is_the_luma_normalised_once():
    image = np.random.default_rng(0).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    result = normalise(torch.from_numpy(image), mean, std, channels=1)
    assert result.shape == (2, 1, 5, 7)
    assert result.is_contiguous(memory_format=torch.channels_last)
    grey = np.stack([cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in image]) / 255
    # The average of what a colour network sees of it; OpenCV rounds to whole bytes
    expected = np.mean([(grey - m) / s for m, s in zip(mean, std, strict=True)], axis=0)
    np.testing.assert_allclose(result[:, 0].numpy(), expected, atol=0.51 / 255 / 0.226)
