"""Planes shrunk to square cells: what a search over many stores holds in memory instead of every pixel."""

import numpy as np

from cloudseg.postprocess.arguments import UINT8, array_of, whole_number
from cloudseg.postprocess.compiling import kernel


@kernel
def sum_cells(planes, side, columns, sums):
    """Add the sum of each cell of planes (N, H, W) to sums (N, rows, columns); `columns` is scratch for W numbers."""
    count, height, width = planes.shape
    for number in range(count):
        columns[:] = 0
        for y in range(height):
            for x in range(width):
                columns[x] += planes[number, y, x]
            if (y + 1) % side == 0 or y + 1 == height:
                row = y // side
                for cell in range(sums.shape[2]):
                    for x in range(cell * side, min((cell + 1) * side, width)):
                        sums[number, row, cell] += columns[x]
                        columns[x] = 0


def cell_sums(planes: np.ndarray, side: int, /) -> np.ndarray:
    """Sum the pixels of each square cell of planes; cells at the right and lower edge hold what is left.

    Parameters
    ----------
    planes : uint8 (N, C, H, W).
    side : of a cell, in pixels.

    Returns
    -------
    int64 (N, C, ceil(H / side), ceil(W / side)).

    Examples
    --------
    >>> cell_sums(np.array([[[[1, 2, 3], [4, 5, 6]]]], np.uint8), 2)
    array([[[[12,  9]]]])
    """
    planes = np.ascontiguousarray(array_of("planes", planes, (UINT8,), 4))
    side = whole_number("side", side, 1)
    if side == 1:
        return planes.astype(np.int64)
    images, classes, height, width = planes.shape
    rows, columns = grid_of(height, width, side)
    sums = np.zeros((images * classes, rows, columns), np.int64)
    sum_cells(planes.reshape(-1, height, width), side, np.zeros(width, np.int64), sums)
    return sums.reshape(images, classes, rows, columns)


def cell_areas(height: int, width: int, side: int, /) -> np.ndarray:
    """Return the number of pixels of each cell, int64 (rows, columns).

    Examples
    --------
    >>> cell_areas(2, 3, 2)
    array([[4, 2]])
    """
    rows, columns = grid_of(height, width, side)
    of_rows, of_columns = (
        np.minimum(side, extent - side * np.arange(cells)) for extent, cells in ((height, rows), (width, columns))
    )
    return np.outer(of_rows, of_columns)


def cell_means(planes: np.ndarray, side: int, /) -> np.ndarray:
    """Return the mean of each cell of planes, rounded half up, as uint8; see `cell_sums`.

    Examples
    --------
    >>> cell_means(np.array([[[[1, 2, 3], [4, 5, 6]]]], np.uint8), 2)
    array([[[[3, 5]]]], dtype=uint8)
    """
    areas = cell_areas(*planes.shape[2:], side)
    return ((2 * cell_sums(planes, side) + areas) // (2 * areas)).astype(np.uint8)


def grid_of(height: int, width: int, side: int) -> tuple[int, int]:
    """Return how many rows and columns of cells a plane has.

    Examples
    --------
    >>> grid_of(350, 525, 10)
    (35, 53)
    """
    return -(-height // side), -(-width // side)
