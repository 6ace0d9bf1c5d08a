"""A half-written store is finished only by what began it: the same code and the same versions of the libraries."""

import cv2
import numba
import numpy as np
import PIL
import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from small_stores import CLASSES as BLENDED
from small_stores import SIZE, member, planes, write
from test_pixels import CLASSES, Folder
from test_predict import inputs, run  # noqa: F401 (a fixture)

from cloudseg.dataset.pixels import build_pixels, build_truth
from cloudseg.ensemble.blending import blend_stores
from cloudseg.ensemble.surface import write_surface
from cloudseg.runtime import devices
from cloudseg.storage import stores


def make_pixels(folder, request):
    data = Folder(folder / "clouds")
    return lambda code: build_pixels(
        data.images, data.root, folder / "a", split="train", size="16x24", classes=CLASSES, code=code
    )


def make_truth(folder, request):
    data = Folder(folder / "clouds")
    return lambda code: build_truth(data.images, data.root, folder / "a", size=(10, 15), classes=CLASSES, code=code)


def make_prediction(folder, request):
    trained = request.getfixturevalue("inputs")
    return lambda code: run(trained, folder, code=code)


def make_blend(folder, request):
    ids = list("abcdefg")
    store = write(folder / "member.zarr", planes(0, 7), ids)
    return lambda code: blend_stores(
        [store], [member("m", 0)], folder / "a", folds=None, classes=BLENDED, size=SIZE, code=code
    )


def make_surface(folder, request):
    ids = list("abcdefg")
    blend = write(folder / "blend.zarr", planes(0, 7), ids, fold=[0] * 7)
    truth = write(folder / "truth.zarr", planes(1, 7) // 128, ids)
    return lambda code: write_surface(blend, truth, folder / "a", folds=[0], min_sizes=[0, 5], code=code)


def another_gpu(monkeypatch):
    monkeypatch.setattr(devices, "instructions", lambda device: "another processor")


@pytest.mark.parametrize(
    ("make", "libraries", "changes"),
    [
        (make_pixels, [np, cv2, PIL], []),
        (make_truth, [np, cv2, PIL], []),
        (make_prediction, [np, torch, smp, timm], [another_gpu]),
        (make_blend, [np, numba], []),
        (make_surface, [np, numba], []),
    ],
)
def test_a_half_written_store_is_not_finished_by_another(make, libraries, changes, tmp_path, request, monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", 2 * 10 * 15 * 3)
    if make is make_prediction:
        monkeypatch.setattr(stores, "SHARD_BYTES", 2 * 2 * 20 * 30)
    job = make(tmp_path, request)
    real, written = stores.Writer.write, []

    def write_and_stop(writer, rows, block, name=""):
        real(writer, rows, block, name)
        written.append((writer.path, name, rows.start))
        raise InterruptedError

    def stopped_after_a_shard(code):
        with pytest.raises((InterruptedError, OSError)):
            job(code)
        return written.pop()

    monkeypatch.setattr(stores.Writer, "write", write_and_stop)
    first = stopped_after_a_shard(code=1)
    assert stopped_after_a_shard(code=1) != first  # went on
    assert stopped_after_a_shard(code=2) == first
    for library in libraries:
        with monkeypatch.context() as patch:
            patch.setattr(library, "__version__", "99.0.0")
            assert stopped_after_a_shard(code=2) == first, library
    for change in changes:
        with monkeypatch.context() as patch:
            change(patch)
            assert stopped_after_a_shard(code=2) == first, change
