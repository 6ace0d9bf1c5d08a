"""Where the values of classifiers lie: one per image and class, in a store beside the planes of a run.

A store of values is one array (image, class) uint8, 255 is certainty, with the attributes of the store of planes that
were predicted with them.
"""

from pathlib import Path

DIMS = ("image", "class")


def values_path(planes: str | Path) -> Path:
    """Return the store of values that lies beside a store of planes.

    Examples
    --------
    >>> values_path("fold0/best-valid.zarr").as_posix()
    'fold0/best-valid-values.zarr'
    """
    path = Path(planes)
    return path.with_name(f"{path.stem}-values{path.suffix}")
