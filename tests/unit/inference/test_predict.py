import shutil
import threading

import numpy as np
import pytest
import torch
import zarr
from network_fixtures import pixels_of_test, write_folds, write_pixels

from cloudseg.config.recipe import Recipe
from cloudseg.config.views import FLIPS, variants_of
from cloudseg.inference import predict
from cloudseg.inference.predictor import Predictor
from cloudseg.inference.views import footprint, mean_of_variants, predict_variant
from cloudseg.models.checkpoint_file import write_state
from cloudseg.models.preprocessing import Intensities, normalise
from cloudseg.models.probabilities import quantise
from cloudseg.models.resize import resize
from cloudseg.models.segmenter import Segmenter, build_model
from cloudseg.runtime.background import BackgroundWriter
from cloudseg.storage import files, stores

NORM = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
OUTPUTS = ("best-valid", "best-test", "last-valid", "last-test")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_pixels(folder / "pixels.zarr")
    write_folds(folder / "folds.tsv")
    for number, name in enumerate(("best", "last")):
        torch.manual_seed(number)
        model = build_model("tu-test_resnet", "fpn", 2)
        about = {"encoder": "tu-test_resnet", "decoder": "fpn", "classes": ["a", "b"]}
        write_state(model.network.state_dict(), folder / f"{name}.safetensors", about)
    return folder


def run(inputs, folder, only=("valid", "test"), code=0, batch=2, **recipe):
    outputs = {name: folder / f"{name}.zarr" for name in OUTPUTS}
    # A recipe has no batch of one; a device without memory for more has
    recipe = Recipe(**{"normalise": NORM, "precision": "float32"} | recipe).model_copy(update={"batch": batch})
    splits = {
        "valid": {"pixels": inputs / "pixels.zarr", "folds": inputs / "folds.tsv", "fold": 1},
        "test": {"pixels": pixels_of_test(inputs / "pixels.zarr")},
    }
    for split in only:
        job = predict.PredictionJob(
            checkpoints={name: inputs / f"{name}.safetensors" for name in ("best", "last")},
            outputs={name: outputs[f"{name}-{split}"] for name in ("best", "last")},
            recipe=recipe,
            size=(20, 30),
            code=code,
            **splits[split],
        )
        predict.predict(job)
    return outputs


def bytes_of(path):
    return {file.relative_to(path): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def test_stores_hold_the_images_in_order(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", 3 * 2 * 20 * 30)  # three images: shards and batches end apart
    outputs = run(inputs, tmp_path)
    pixels = {"valid": inputs / "pixels.zarr", "test": pixels_of_test(inputs / "pixels.zarr")}
    for name, path in outputs.items():
        checkpoint, split = name.split("-")
        store = stores.read(path)
        expected_ids = {"valid": [f"train{n}.jpg" for n in (9, 7, 5, 3, 1)], "test": [f"test{n}.jpg" for n in range(3)]}
        assert store.attrs["ids"] == expected_ids[split]
        assert store.attrs["classes"] == ["a", "b"]
        assert store.attrs["run"] == files.sha256(inputs / f"{checkpoint}.safetensors")
        assert (store.shape, store.dtype) == ((len(expected_ids[split]), 2, 20, 30), np.uint8)
        model = Predictor(inputs / f"{checkpoint}.safetensors", Recipe()).model
        for row, image_id in enumerate(store.attrs["ids"]):  # one image at a time, by way of Zarr itself
            array = zarr.open(pixels[split], mode="r")["image"]
            image = array[int("".join(filter(str.isdigit, image_id)))][None]
            mean = mean_of_variants(model, normalise(torch.from_numpy(image), **NORM), FLIPS).planes
            alone = quantise(resize(mean, (20, 30)))[0].numpy()
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


def limit_memory(monkeypatch, images):
    """Let a network have no memory for more images at once."""
    forward = Segmenter.forward

    def limited(model, image):
        if len(image) > images:
            raise torch.OutOfMemoryError("out of memory")
        return forward(model, image)

    monkeypatch.setattr(Segmenter, "forward", limited)


def test_less_memory_than_a_batch_takes_begins_anew_with_half_of_it(inputs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(stores, "SHARD_BYTES", 2 * 2 * 20 * 30)  # five images in shards of two, two and one
    expected = run(inputs, tmp_path / "two", batch=2)
    limit_memory(monkeypatch, images=2)
    monkeypatch.setattr(stores, "SHARD_BYTES", 5 * 2 * 20 * 30)
    outputs = run(inputs, tmp_path / "four", batch=4)
    assert "cpu has no memory for 4 images at once: beginning anew with 2" in capsys.readouterr().out
    for name in OUTPUTS:
        ours, theirs = stores.read(outputs[name]), stores.read(expected[name])
        assert np.array_equal(ours[:], theirs[:])
        assert ours.attrs["settings"] == theirs.attrs["settings"]


@pytest.mark.parametrize("stopped_at", ["best-valid", "last-test"])
def test_a_prediction_killed_with_part_of_a_batch_goes_on_with_it(inputs, tmp_path, monkeypatch, stopped_at, capsys):
    size = 2 * 20 * 30
    monkeypatch.setattr(stores, "SHARD_BYTES", 2 * size)  # five images in shards of two, two and one; three in two
    limit_memory(monkeypatch, images=1)
    expected = run(inputs, tmp_path / "whole", batch=4)
    write, written = stores.Writer.write, []

    def fail_at_the_second(writer, rows, block, name=""):
        if writer.path.name == f"{stopped_at}.zarr" and rows.start == 2:
            raise OSError("no space left on device")
        write(writer, rows, block, name)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left on device"):
        patch.setattr(stores.Writer, "write", fail_at_the_second)
        run(inputs, tmp_path / "cut", batch=4)
    assert "beginning anew with 1\n" in capsys.readouterr().out

    def note(writer, rows, block, name=""):
        written.append((writer.path.stem, rows))
        write(writer, rows, block, name)

    with monkeypatch.context() as patch:
        patch.setattr(stores.Writer, "write", note)
        resumed = run(inputs, tmp_path / "cut", only=[stopped_at.partition("-")[2]], batch=4)
    assert "beginning anew" not in capsys.readouterr().out
    assert (stopped_at, slice(0, 2)) not in written
    for name in (name for name in OUTPUTS if name.endswith(stopped_at.partition("-")[2])):
        assert bytes_of(expected[name]) == bytes_of(resumed[name])


@pytest.mark.parametrize("spoiled", ["{", "[]", '{"attributes": 1}', "", None])
def test_only_what_the_same_prediction_left_decides_the_batch(inputs, tmp_path, monkeypatch, spoiled):
    """A part of another run, one that is not to be read, and one that a batch of two began before memory ran out."""
    limit_memory(monkeypatch, images=1)
    expected = run(inputs, tmp_path / "whole", batch=1)
    for batch, last in ((2, "last-valid"), (1, "best-valid")):

        def stop(writer, *arguments, last=last):
            if writer.path.stem == last:
                raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(predict, "write_shards", stop)
            run(inputs, tmp_path / "new", batch=batch)
    assert (tmp_path / "new/last-valid.zarr.part").exists()
    shutil.copytree(tmp_path / "new", tmp_path / "again")
    part = tmp_path / "new/best-valid.zarr.part/zarr.json"
    begun = part.read_text()
    if spoiled is None:
        part.write_text(begun.replace(files.sha256(inputs / "best.safetensors"), "0" * 64))
    else:
        part.write_text(spoiled)
    asked = []
    monkeypatch.setattr(predict, "with_fitting_batch", lambda work, batch, device: (asked.append(batch), work(1)))
    outputs = run(inputs, tmp_path / "new", batch=2)
    assert asked == [2, 2]  # for the validation images, then for the test images
    for name in OUTPUTS:
        assert bytes_of(expected[name]) == bytes_of(outputs[name])
    run(inputs, tmp_path / "again", batch=2)
    assert asked == [2, 2, 1, 2]


def test_less_memory_than_an_image_takes_ends_the_job(inputs, tmp_path, monkeypatch):
    limit_memory(monkeypatch, images=0)
    with pytest.raises(torch.OutOfMemoryError) as raised:
        run(inputs, tmp_path, batch=5)
    assert "cpu has no memory for one image: predict on a larger device" in raised.value.__notes__[0]


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

    with BackgroundWriter(predict.QUEUED) as writing:
        predict.write_shards(writer, make, [f"{number}.jpg" for number in range(8)], writing)
    assert threading.main_thread() not in threads
    assert np.array_equal(stores.read(tmp_path / "s.zarr")[:, 0], np.arange(8))


def test_one_thread_finishes_the_stores_that_were_made_and_no_other(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", 2)
    spec = stores.Spec((4, 1), "uint8", ("image", "x"))
    writers = [stores.Writer(tmp_path / name, {"": spec}, {}) for name in ("a", "b", "c")]
    ended, finish = [], stores.Writer.finish

    def slow(writer):
        finish(writer)
        ended.append((writer.path.name, threading.current_thread()))

    monkeypatch.setattr(stores.Writer, "finish", slow)

    def make(rows):
        if len(made) == 5:
            raise RuntimeError("3.jpg is odd")
        made.append(rows)
        return np.zeros((2, 1), np.uint8)

    made = []
    with pytest.raises(RuntimeError, match=r"3\.jpg is odd"), BackgroundWriter(predict.QUEUED) as writing:
        for writer in writers:
            predict.write_shards(writer, make, list("0123"), writing)
    (first, thread), (second, same) = ended
    assert (first, second) == ("a", "b")
    assert thread is same is not threading.main_thread()
    assert stores.Writer(tmp_path / "c", {"": spec}, {}).missing() == [slice(2, 4)]  # what was made is kept


def test_a_recipe_is_shown_in_all_its_views(inputs, tmp_path):
    steps = [
        {"name": "HorizontalFlip", "p": 0.5},
        {"name": "RandomBrightnessContrast", "p": 0.5},
        {"name": "Rotate", "limit": 20, "p": 0.5},
    ]
    settings = {"tta": "recipe", "augmentation": steps}
    outputs = run(inputs, tmp_path, **settings)
    pixels = zarr.open(pixels_of_test(inputs / "pixels.zarr"), mode="r")
    model = Predictor(inputs / "last.safetensors", Recipe()).model
    black, white = (normalise(torch.full((1, 1, 1, 3), value, dtype=torch.uint8), **NORM) for value in (0, 255))
    variants = variants_of(Recipe(**settings))
    assert len(variants) == 6
    store = stores.read(outputs["last-test"])
    for row in range(3):
        image = normalise(torch.from_numpy(pixels["image"][row][None]), **NORM)
        total, weights = 0, 0
        for variant in variants:
            probability = predict_variant(model, image, variant.operations, Intensities(black, white)).planes
            seen = footprint(variant.operations, image)
            weight = variant.weight * (1 if seen is None else seen)
            total, weights = total + weight * probability, weights + weight
        expected = quantise(resize(total / weights, (20, 30)))[0].detach().numpy()
        assert np.abs(store[row].astype(int) - expected).max() <= 1
    plain = run(inputs, tmp_path / "plain", tta=["identity"])
    assert stores.read(plain["last-test"])[:].tolist() != store[:].tolist()


def test_views_of_another_scale_are_weighed_in(inputs, tmp_path):
    tta = ["identity", {"view": "both", "scale": 1.25, "weight": 2}]
    outputs = run(inputs, tmp_path, tta=tta)
    model = Predictor(inputs / "last.safetensors", Recipe()).model
    pixels = zarr.open(pixels_of_test(inputs / "pixels.zarr"), mode="r")
    store = stores.read(outputs["last-test"])
    for row in range(3):
        image = normalise(torch.from_numpy(pixels["image"][row][None]), **NORM)
        with torch.no_grad():
            one = torch.sigmoid(model(image))
            two = resize(torch.sigmoid(model(resize(image.flip(2, 3), (40, 60)))), (32, 48)).flip(2, 3)
        expected = quantise(resize((one + 2 * two) / 3, (20, 30)))[0].numpy()
        assert np.abs(store[row].astype(int) - expected).max() <= 1


def test_a_scale_of_one_makes_the_same_store(inputs, tmp_path):
    first = run(inputs, tmp_path / "first")
    second = run(inputs, tmp_path / "second", tta=[{"view": flip.name, "scale": 1} for flip in FLIPS])
    for name in OUTPUTS:
        assert bytes_of(first[name]) == bytes_of(second[name])


def test_a_view_too_small_for_the_decoder_is_refused(inputs, tmp_path):
    views = ["identity", {"view": "both", "scale": 0.5}]
    with pytest.raises(ValueError, match="at least 32 pixels in all views for fpn, got 16 from 32x48"):
        run(inputs, tmp_path, tta=views)


def test_a_grey_checkpoint_gets_grey_images(inputs, tmp_path):
    model = build_model("tu-test_resnet", "fpn", 2, channels=1)
    about = {"encoder": "tu-test_resnet", "decoder": "fpn", "classes": ["a", "b"], "channels": 1}
    write_state(model.network.state_dict(), tmp_path / "best.safetensors", about)
    write_state(model.network.state_dict(), tmp_path / "last.safetensors", about)
    for name in ("pixels.zarr", "test-pixels.zarr", "folds.tsv"):
        (tmp_path / name).symlink_to(inputs / name)
    outputs = run(tmp_path, tmp_path / "out")
    image = torch.from_numpy(zarr.open(pixels_of_test(inputs / "pixels.zarr"), mode="r")["image"][:1])
    image = normalise(image, **NORM, channels=1)
    expected = quantise(resize(mean_of_variants(model.eval(), image, FLIPS).planes, (20, 30)))[0].numpy()
    assert np.abs(stores.read(outputs["last-test"])[0].astype(int) - expected).max() <= 1
