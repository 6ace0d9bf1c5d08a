import pytest
import torch

from cloudseg.models.resize import resize


def test_resizing_treats_pixels_as_areas():
    ramp = torch.arange(12.0).expand(1, 1, 12, 12)
    shrunk = resize(ramp, (3, 3))[0, 0, 1]
    assert shrunk[1].item() == pytest.approx(5.5)  # the middle stays where it is
    checks = (torch.arange(12) % 2).float().expand(1, 1, 12, 12)
    assert (resize(checks, (3, 3)) - 0.5).abs().max() < 0.1  # averaged, not picked
    line = torch.tensor([[[[0.0, 1.0]]]])
    assert resize(line, (1, 4)).flatten().tolist() == [0.0, 0.25, 0.75, 1.0]
