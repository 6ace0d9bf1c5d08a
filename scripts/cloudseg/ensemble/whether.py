"""What the members of an ensemble that are asked for nothing else say on whether the classes of images are there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from cloudseg.ensemble.blending import StoreBlend, blend_digest, fill
from cloudseg.ensemble.parts import refuse_squeezed, require_images
from cloudseg.postprocess import plane_histograms
from cloudseg.storage import class_values, files, stores

if TYPE_CHECKING:  # it brings OpenCV and pandas, which few blends need
    from cloudseg.dataset.black import Black


def write_whether(
    paths: Sequence[str | Path],
    members: Sequence[Mapping[str, Any]],
    out: str | Path,
    *,
    value_paths: Sequence[str | Path] = (),
    value_members: Sequence[Mapping[str, Any]] = (),
    folds: Sequence[int] | None,
    classes: Sequence[str],
    size: tuple[int, int],
    sharpen: float | None = None,
    levels: Sequence[Sequence[int]] | None = None,
    black: "Black | None" = None,
    allow_squeezed: bool = False,
    threads: int = 1,
    code: int = 0,
) -> None:
    """Write how the values of blended planes are distributed, without the planes, and what classifiers say of them.

    A killed call is gone on with, shard by shard as for planes.

    Parameters
    ----------
    paths, members : of the stores of planes that are blended, as for `cloudseg.ensemble.blending.blend_stores`.
    out : the group to write: `histogram` (image, class, 256) uint32, pixels by byte; and, where there are classifiers,
        `value` (image, class) uint8, their weighted mean. Its attributes hold `ids`, `classes`, `fold` and `run`.
    value_paths, value_members : the stores of values (image, class) uint8, and name, fold and weight of each likewise;
        of the images of the planes.
    folds, classes, size, levels, black, allow_squeezed, threads, code : as for `blend_stores`. Values are no votes.
    sharpen : the power that probabilities, and values, are raised to before the mean is taken.

    Raises
    ------
    ConfigError : when votes are to be sharpened.
    StoreError : as `blend_stores`, and when values are of other images or classes than the planes. Nothing is written
        then.
    """
    how = {"folds": folds, "classes": classes, "sharpen": sharpen, "threads": threads}
    planes = StoreBlend.of(paths, members, size=size, levels=levels, black=black, scratch=Path(out).parent, **how)
    values = StoreBlend.of(value_paths, value_members, size=(), **how) if value_paths else None
    if values is not None:
        _require_same_images(values, planes)
    if not allow_squeezed:
        refuse_squeezed(paths, threads)
    run = whether_digest(paths, members, value_paths, value_members, sharpen, levels, black and black.grey)
    made_with = stores.made_with(code, np, numba)
    writer = stores.Writer(out, _specs(planes, values), planes.attributes(run), made_with=made_with)
    if values is not None:
        fill(writer, values.images, "value")
    fill(writer, lambda rows: _histograms(planes, rows), "histogram")
    writer.finish()


def whether_digest(
    paths: Sequence[str | Path],
    members: Sequence[Mapping[str, Any]],
    value_paths: Sequence[str | Path] = (),
    value_members: Sequence[Mapping[str, Any]] = (),
    sharpen: float | None = None,
    levels: Sequence[Sequence[int]] | None = None,
    grey: int | None = None,
) -> str:
    """Return the attribute `run` of what `write_whether` makes of these."""
    return files.digest(
        {
            "planes": blend_digest(paths, members, sharpen, levels, grey),
            "values": blend_digest(value_paths, value_members),
            # The digests above do not tell what the same checkpoint predicted anew, in other views
            "settings": [stores.read(path).attrs.get("settings") for path in (*paths, *value_paths)],
        }
    )


def _require_same_images(values: StoreBlend, planes: StoreBlend) -> None:
    for part, other in zip(values.parts, planes.parts, strict=True):
        require_images(part.paths[0], part.arrays[0], other.arrays[0], of=other.paths[0])


def _specs(planes: StoreBlend, values: StoreBlend | None) -> dict[str, stores.Spec]:
    shape = (len(planes.ids), len(planes.classes), 256)
    histogram = stores.Spec(shape, "uint32", ("image", "class", "level"), most=planes.spec.shard)
    if values is None:
        return {"histogram": histogram}
    return {"histogram": histogram, "value": stores.Spec(shape[:2], "uint8", class_values.DIMS)}


def _histograms(planes: StoreBlend, rows: slice) -> np.ndarray:
    return plane_histograms(planes.images(rows), threads=planes.threads).astype(np.uint32)
