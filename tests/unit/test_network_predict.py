import threading

import numpy as np
import pytest
import torch
import zarr
from network_fixtures import write_folds, write_pixels
from torch import nn

from cloudseg import files, stores
from cloudseg.network import models, predict
from cloudseg.network.samples import normalise

NORM = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
ALL = [{"view": name} for name in predict.VIEWS]
OUTPUTS = ("best-valid", "best-test", "last-valid", "last-test")


class Equivariant(nn.Module):
    """A smooth function of each pixel and its neighbours on all sides: flips pass through it."""

    def forward(self, image):
        around = nn.functional.avg_pool2d(image, 3, stride=1, padding=1, count_include_pad=False)
        return torch.cat([around.mean(1, keepdim=True) * 2, (image * around).mean(1, keepdim=True)], 1)


class Lopsided(nn.Module):
    """Logits that depend on where a pixel is: no view agrees with another."""

    def forward(self, image):
        ramp = torch.arange(image[0, 0].numel(), dtype=torch.float32).reshape(image.shape[-2:]) / 10 - 2
        return image.mean(1, keepdim=True) * ramp


def images(count=3, size=(24, 36)):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("view", predict.VIEWS)
def test_each_view_is_undone(view):
    plain = predict.quantise(predict.mean_of_views(Equivariant(), images(), [{"view": "identity"}]))
    seen = predict.quantise(predict.mean_of_views(Equivariant(), images(), [{"view": view}]))
    assert (plain.int() - seen.int()).abs().max() <= 1
    all_views = predict.quantise(predict.mean_of_views(Equivariant(), images(), ALL))
    assert (plain.int() - all_views.int()).abs().max() <= 1
    assert plain.float().std() > 20  # there was something to tell apart


def test_views_are_weighted_after_the_sigmoid():
    views = [{"view": "identity", "weight": 3}, {"view": "horizontal"}, {"view": "both", "weight": 0.5}]
    image = images()
    planes = image.numpy()
    flips = {"identity": np.s_[:], "horizontal": np.s_[..., ::-1], "both": np.s_[..., ::-1, ::-1]}
    expected = 0
    for view in views:
        flip = flips[view["view"]]
        flipped = torch.from_numpy(planes[flip].copy())
        probability = 1 / (1 + np.exp(-Lopsided()(flipped).numpy().astype(np.float64)))
        expected = expected + view.get("weight", 1) / 4.5 * probability[flip]
    np.testing.assert_allclose(predict.mean_of_views(Lopsided(), image, views).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("views", "message"), [([], "at least one view"), ([{"view": "horizontl"}], "nearest: hor")])
def test_bad_views(views, message):
    with pytest.raises(ValueError, match=message):
        predict.mean_of_views(Equivariant(), images(), views)


def test_quantising_is_floor_from_float32():
    p = np.concatenate([np.linspace(0, 1, 20001), np.arange(256) / 255, (np.arange(255) + 0.5) / 255])
    p = p.astype(np.float32)
    expected = np.floor(np.float32(255) * p + np.float32(0.5)).astype(np.uint8)
    assert np.array_equal(predict.quantise(torch.from_numpy(p)).numpy(), expected)
    assert predict.quantise(torch.tensor([1.0000001, -1e-9])).tolist() == [255, 0]


def test_resizing_treats_pixels_as_areas():
    ramp = torch.arange(12.0).expand(1, 1, 12, 12)
    shrunk = predict.resize(ramp, (3, 3))[0, 0, 1]
    assert shrunk[1].item() == pytest.approx(5.5)  # the middle stays where it is
    checks = (torch.arange(12) % 2).float().expand(1, 1, 12, 12)
    assert (predict.resize(checks, (3, 3)) - 0.5).abs().max() < 0.1  # averaged, not picked
    line = torch.tensor([[[[0.0, 1.0]]]])
    assert predict.resize(line, (1, 4)).flatten().tolist() == [0.0, 0.25, 0.75, 1.0]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_pixels(folder / "pixels.zarr")
    write_folds(folder / "folds.tsv")
    for number, name in enumerate(("best", "last")):
        torch.manual_seed(number)
        model = models.build_model("tu-test_resnet", "fpn", 2)
        about = {"encoder": "tu-test_resnet", "decoder": "fpn", "classes": ["a", "b"]}
        models.write_state(model.network.state_dict(), folder / f"{name}.safetensors", about)
    return folder


def run(inputs, folder, **options):
    outputs = {name: folder / f"{name}.zarr" for name in OUTPUTS}
    settings = {"views": ALL, "size": (20, 30), "batch": 2, "normalisation": NORM} | options
    predict.predict(
        checkpoints={name: inputs / f"{name}.safetensors" for name in ("best", "last")},
        pixels=inputs / "pixels.zarr",
        folds=inputs / "folds.tsv",
        fold=1,
        outputs=outputs,
        **settings,
    )
    return outputs


def bytes_of(path):
    return {file.relative_to(path): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_stores_hold_the_images_in_order(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", 3 * 2 * 20 * 30)  # three images: shards and batches end apart
    outputs = run(inputs, tmp_path)
    pixels = zarr.open(inputs / "pixels.zarr", mode="r")
    for name, path in outputs.items():
        checkpoint, split = name.split("-")
        store = stores.read(path)
        expected_ids = {"valid": [f"train{n}.jpg" for n in (9, 7, 5, 3, 1)], "test": [f"test{n}.jpg" for n in range(3)]}
        assert store.attrs["ids"] == expected_ids[split]
        assert store.attrs["classes"] == ["a", "b"]
        assert store.attrs["run"] == files.sha256(inputs / f"{checkpoint}.safetensors")
        assert (store.shape, store.dtype) == ((len(expected_ids[split]), 2, 20, 30), np.uint8)
        model = predict.load_model(inputs / f"{checkpoint}.safetensors", ["a", "b"])
        for row, image_id in enumerate(store.attrs["ids"]):  # one image at a time, by way of Zarr itself
            array = pixels["train/image" if split == "valid" else "test/image"]
            image = array[int("".join(filter(str.isdigit, image_id)))][None]
            mean = predict.mean_of_views(model, normalise(torch.from_numpy(image), **NORM), ALL)
            alone = predict.quantise(predict.resize(mean, (20, 30)))[0].numpy()
            assert np.abs(store[row].astype(int) - alone).max() <= 1
    assert bytes_of(outputs["best-test"]) != bytes_of(outputs["last-test"])


def test_the_same_prediction_has_the_same_bytes(inputs, tmp_path):
    first, second = run(inputs, tmp_path / "first"), run(inputs, tmp_path / "second")
    for name in OUTPUTS:
        assert bytes_of(first[name]) == bytes_of(second[name])


def test_a_killed_prediction_goes_on_with_the_same_bytes(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", 2 * 2 * 20 * 30)
    whole = run(inputs, tmp_path / "whole")
    written = []
    write = stores.Writer.write

    def fail_at_the_third(writer, rows, block, name=""):
        if len(written) == 2:
            raise OSError("no space left on device")
        written.append(rows)
        write(writer, rows, block, name)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left on device"):
        patch.setattr(stores.Writer, "write", fail_at_the_third)
        run(inputs, tmp_path / "cut")
    assert not (tmp_path / "cut/best-valid.zarr").exists()

    made = []
    with monkeypatch.context() as patch:
        patch.setattr(stores.Writer, "write", lambda *args: (made.append(args[1]), write(*args)))
        resumed = run(inputs, tmp_path / "cut")
    assert made[0] == slice(4, 5)  # two shards of the first store were there
    for name in OUTPUTS:
        assert bytes_of(whole[name]) == bytes_of(resumed[name])


def test_writing_goes_on_in_the_background_with_few_blocks_waiting(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", 1)
    writer = stores.Writer(tmp_path / "s.zarr", {"": stores.Spec((8, 4), "uint8", ("image", "x"))}, {})
    gate, made, threads = threading.Event(), [], set()
    write = writer.write

    def slow(rows, block):
        threads.add(threading.current_thread())
        assert gate.wait(10)
        write(rows, block)

    writer.write = slow

    def make(rows):
        made.append(rows)
        if len(made) == predict.QUEUED + 1:  # nothing is written yet, and this is as far as it may run ahead
            gate.set()
        return np.full((1, 4), rows.start, np.uint8)

    predict.write_shards(writer, make)
    assert threading.main_thread() not in threads
    assert np.array_equal(stores.read(tmp_path / "s.zarr")[:, 0], np.arange(8))


def test_a_checkpoint_of_other_classes_is_refused(inputs, tmp_path):
    with pytest.raises(ValueError, match=r"best.safetensors: trained on the classes \['a', 'b'\], the images have"):
        predict.load_model(inputs / "best.safetensors", ["a", "c"])
    models.write_state({"x": torch.zeros(1)}, tmp_path / "x.safetensors", {})
    with pytest.raises(ValueError, match=r"x.safetensors: not a checkpoint of cloudseg"):
        predict.load_model(tmp_path / "x.safetensors", ["a", "b"])
