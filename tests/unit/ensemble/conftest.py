"""What several tests of ensembles start from."""

import numpy as np
import pytest
from small_stores import planes, write

from cloudseg.ensemble.surface import write_surface


@pytest.fixture
def surface(tmp_path):
    ids = [f"{number}.jpg" for number in range(5)]
    p, g = planes(3, 5), (planes(3, 5).astype(int) + planes(4, 5) > 300).astype(np.uint8)
    g[2, 0] = 0
    blend = write(tmp_path / "valid.zarr", p, ids, fold=[0, 0, 1, 1, 1])
    order = [4, 2, 0, 1, 3]
    truth = write(tmp_path / "truth.zarr", g[order], [ids[i] for i in order])
    write_surface(blend, truth, tmp_path / "surface.zarr", folds=[0, 1], min_sizes=[0, 10, 60], threads=2)
    return p, g, tmp_path / "surface.zarr"
