import shutil
import threading

import numpy as np
import pytest
import torch
import zarr
from network_fixtures import pixels_of_test, write_folds, write_pixels
from torch import nn

from cloudseg.config.views import views_of
from cloudseg.inference import predict
from cloudseg.models.checkpoint_file import write_state
from cloudseg.models.preprocessing import normalise
from cloudseg.models.probabilities import quantise
from cloudseg.models.resize import resize
from cloudseg.models.segmenter import Segmenter, build_model
from cloudseg.runtime.background import BackgroundWriter
from cloudseg.storage import files, stores
from cloudseg.training.augment import build_transform

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


class PerPixel(nn.Module):
    """A function of each pixel alone: every view that is undone where it was done gives the same."""

    def forward(self, image):
        return torch.cat([image.sum(1, keepdim=True) - 1.5, image[:, :1] * image[:, 1:2]], 1)


def smooth(size=(64, 96)):
    """Waves of 0..1, one in each channel and each image, that turn over slowly: a pixel is like its neighbours."""
    y, x = torch.meshgrid(*(torch.arange(side) / 150 for side in size), indexing="ij")
    waves = [[torch.sin(2 * x + n + c) * torch.cos(1.5 * y - c) for c in range(3)] for n in range(2)]
    return torch.stack([torch.stack(wave) for wave in waves]) / 2 + 0.5


def images(count=3, size=(24, 36)):
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("view", predict.VIEWS)
def test_each_view_is_undone(view):
    plain = quantise(predict.mean_of_views(Equivariant(), images(), [{"view": "identity"}]))
    seen = quantise(predict.mean_of_views(Equivariant(), images(), [{"view": view}]))
    assert (plain.int() - seen.int()).abs().max() <= 1
    all_views = quantise(predict.mean_of_views(Equivariant(), images(), ALL))
    assert (plain.int() - all_views.int()).abs().max() <= 1
    assert plain.float().std() > 20  # there was something to tell apart


MOVES = {
    "transposed": [("transpose",)],
    "half": [("scale", 0.5)],
    "odd": [("scale", 0.77)],
    "larger": [("flip", 3), ("scale", 1.5)],
    "crop": [("crop", 0.9, 0.88)],
    "flipped crop": [("flip", 2), ("crop", 0.7, 0.75)],
    "rotation": [("rotate", 30, None, "zeros", 0)],
    "rotation on another canvas": [("rotate", -20, 2.2, "zeros", 255)],
    "reflected rotation": [("rotate", 90, None, "reflection", 0)],
    "crop of a rotation": [("rotate", 17, None, "zeros", 0), ("flip", 2, 3), ("crop", 0.8, 0.9)],
    "rotation of a crop": [("crop", 0.8, 0.9), ("transpose",), ("rotate", -25, None, "border", 0)],
}


@pytest.mark.parametrize("name", MOVES)
def test_each_view_is_undone_where_it_looked(name):
    view = {"view": name, "moves": MOVES[name]}
    plain = quantise(predict.mean_of_views(PerPixel(), smooth(), [{"view": "identity"}])).int()
    probability, seen = predict.probability_of_view(PerPixel(), smooth(), view)
    covered = torch.ones(64, 96, dtype=torch.bool) if seen is None else seen[0, 0] == 1
    assert probability.shape == plain.shape
    assert (plain - quantise(probability).int()).abs()[..., covered].max() <= 1
    assert covered[20:-20, 30:-30].all()  # the middle is always seen
    assert covered.all() == (not {"crop", "rotate"} & {move[0] for move in MOVES[name]})
    mean = predict.mean_of_views(PerPixel(), smooth(), [{"view": "identity"}, {**view, "weight": 3}])
    assert (plain - quantise(mean).int()).abs().max() <= 1  # the unseen pixels too
    assert plain[0, 0].max() - plain[0, 0].min() > 30


def test_pixels_outside_carry_no_weight():
    """Against a mean that is taken pixel by pixel, of values that say which view they are from."""
    crop = {"view": "crop", "moves": [("crop", 0.5, 0.5)], "weight": 3}
    shown = []

    class Counting(nn.Module):  # the logit of the n-th view
        def forward(self, image):
            shown.append(image)
            return torch.full_like(image[:, :1], float(len(shown)))

    mean = predict.mean_of_views(Counting(), smooth((8, 12)), [{"view": "identity"}, crop])[0, 0]
    one, two = torch.sigmoid(torch.tensor([1.0, 2.0]))
    expected = torch.full((8, 12), one.item())
    expected[2:6, 3:9] = (one + 3 * two) / 4
    assert torch.allclose(mean, expected, atol=1e-6)
    with pytest.raises(ValueError, match=r"no view sees \(crop\); add the view `identity`"):
        predict.mean_of_views(Counting(), smooth((8, 12)), [crop])


def test_a_rotation_sees_what_lies_within_its_frame():
    height, width, angle = 60, 90, np.radians(25)
    seen = predict.seen_pixels([("rotate", 25, None, "border", 0)], torch.zeros(1, 3, height, width))[0, 0].numpy() == 1
    y, x = np.mgrid[:height, :width] + 0.5
    x, y = x - width / 2, y - height / 2
    turned = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x  # rows go down
    depth, edge = (np.minimum(width / 2 - abs(x), height / 2 - abs(y)) for x, y in (turned, (x, y)))
    assert seen[(depth > 2) & (edge > 2)].all()
    assert not seen[depth < 0.5].any()
    assert 0.5 < seen.mean() < 0.9


@pytest.mark.parametrize(
    ("step", "canvas"),
    [
        ({"name": "Rotate", "limit": [30, 30]}, None),
        ({"name": "Rotate", "limit": [-12, -12], "border_mode": 2}, None),
        ({"name": "Rotate", "limit": [40, 40], "fill": 200}, (48, 72)),
        ({"name": "RandomBrightnessContrast", "brightness_limit": [0.3, 0.3], "contrast_limit": [-0.4, -0.4]}, None),
        ({"name": "RandomBrightnessContrast", "brightness_limit": [-0.2, -0.2], "contrast_limit": [0.5, 0.5]}, None),
        (
            {
                "name": "Sequential",
                "transforms": [
                    {"name": "CenterCrop", "height": 36, "width": 60},
                    {"name": "Resize", "height": 48, "width": 72},
                    {"name": "VerticalFlip"},
                ],
            },
            (48, 72),
        ),
        ({"name": "Transpose"}, (48, 48)),
    ],
)
def test_views_show_what_albumentations_shows(step, canvas):
    certain = {**step, "p": 1} | (
        {"transforms": [{**each, "p": 1} for each in step["transforms"]]} if "transforms" in step else {}
    )
    size = canvas or (48, 72)
    image = (smooth(size)[0] * 255).to(torch.uint8).permute(1, 2, 0).numpy()
    expected, _ = build_transform([certain])(image, np.zeros((*size, 1), np.uint8), draw=0)
    view = views_of([step], canvas)[1]
    image = normalise(torch.from_numpy(image)[None], **NORM)
    black, white = (normalise(torch.full((1, 1, 1, 3), value, dtype=torch.uint8), **NORM) for value in (0, 255))
    for move in view["moves"]:
        image = predict.show(image, move, black, white)
    shown = ((image - black) / (white - black) * 255)[0].permute(1, 2, 0).numpy()
    far = np.abs(shown - expected) > 2
    assert far.mean() < 0.04  # the rim of a rotation, where OpenCV interpolates in steps of 1/32
    assert expected.std() > 10


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
    assert np.array_equal(quantise(torch.from_numpy(p)).numpy(), expected)
    assert quantise(torch.tensor([1.0000001, -1e-9])).tolist() == [255, 0]


def test_resizing_treats_pixels_as_areas():
    ramp = torch.arange(12.0).expand(1, 1, 12, 12)
    shrunk = resize(ramp, (3, 3))[0, 0, 1]
    assert shrunk[1].item() == pytest.approx(5.5)  # the middle stays where it is
    checks = (torch.arange(12) % 2).float().expand(1, 1, 12, 12)
    assert (resize(checks, (3, 3)) - 0.5).abs().max() < 0.1  # averaged, not picked
    line = torch.tensor([[[[0.0, 1.0]]]])
    assert resize(line, (1, 4)).flatten().tolist() == [0.0, 0.25, 0.75, 1.0]


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


def run(inputs, folder, only=("valid", "test"), **options):
    outputs = {name: folder / f"{name}.zarr" for name in OUTPUTS}
    settings = {"views": ALL, "size": (20, 30), "batch": 2, "normalisation": NORM, "precision": "float32"} | options
    splits = {
        "valid": {"pixels": inputs / "pixels.zarr", "folds": inputs / "folds.tsv", "fold": 1},
        "test": {"pixels": pixels_of_test(inputs / "pixels.zarr")},
    }
    for split in only:
        predict.predict(
            checkpoints={name: inputs / f"{name}.safetensors" for name in ("best", "last")},
            outputs={name: outputs[f"{name}-{split}"] for name in ("best", "last")},
            **splits[split],
            **settings,
        )
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
        model, _ = predict.load_checkpoint(inputs / f"{checkpoint}.safetensors", ["a", "b"])
        for row, image_id in enumerate(store.attrs["ids"]):  # one image at a time, by way of Zarr itself
            array = zarr.open(pixels[split], mode="r")["image"]
            image = array[int("".join(filter(str.isdigit, image_id)))][None]
            mean = predict.mean_of_views(model, normalise(torch.from_numpy(image), **NORM), ALL)
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
    views = [*views_of(steps), {"view": "both", "scale": 1.25, "weight": 2}]
    outputs = run(inputs, tmp_path, views=views)
    pixels = zarr.open(pixels_of_test(inputs / "pixels.zarr"), mode="r")
    model, _ = predict.load_checkpoint(inputs / "last.safetensors", ["a", "b"])
    black, white = (normalise(torch.full((1, 1, 1, 3), value, dtype=torch.uint8), **NORM) for value in (0, 255))
    store = stores.read(outputs["last-test"])
    for row in range(3):
        image = normalise(torch.from_numpy(pixels["image"][row][None]), **NORM)
        total, weights = 0, 0
        for view in views:
            probability, seen = predict.probability_of_view(model, image, view, black, white)
            weight = view["weight"] * (1 if seen is None else seen)
            total, weights = total + weight * probability, weights + weight
        expected = quantise(resize(total / weights, (20, 30)))[0].numpy()
        assert np.abs(store[row].astype(int) - expected).max() <= 1
    plain = run(inputs, tmp_path / "plain", views=[{"view": "identity"}])
    assert stores.read(plain["last-test"])[:].tolist() != store[:].tolist()


def test_a_scale_of_one_makes_the_same_store(inputs, tmp_path):
    first = run(inputs, tmp_path / "first")
    second = run(inputs, tmp_path / "second", views=[{**view, "scale": 1} for view in ALL])
    for name in OUTPUTS:
        assert bytes_of(first[name]) == bytes_of(second[name])


def test_a_view_too_small_for_the_decoder_is_refused(inputs, tmp_path):
    views = [{"view": "identity"}, {"view": "both", "scale": 0.5}]
    with pytest.raises(ValueError, match="images of 32x48, which a view of `tta` shrinks to sides of 16 pixels; fpn"):
        run(inputs, tmp_path, views=views)


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
    expected = quantise(resize(predict.mean_of_views(model.eval(), image, ALL), (20, 30)))[0].numpy()
    assert np.abs(stores.read(outputs["last-test"])[0].astype(int) - expected).max() <= 1


def test_checkpoints_of_one_kind_share_a_network(inputs, tmp_path):
    first = predict.load_checkpoint(inputs / "best.safetensors", ["a", "b"])
    first[0].to(memory_format=torch.channels_last).train()
    model, about = predict.load_checkpoint(inputs / "last.safetensors", ["a", "b"], first)
    alone, the_same = predict.load_checkpoint(inputs / "last.safetensors", ["a", "b"])
    assert model is first[0]
    assert about == the_same
    assert not model.training
    assert alone is not model
    shared = model.state_dict()
    assert all(torch.equal(value, shared[key]) for key, value in alone.state_dict().items())
    grey = build_model("tu-test_resnet", "fpn", 2, channels=1)
    write_state(grey.network.state_dict(), tmp_path / "grey.safetensors", {**about, "channels": 1})
    assert predict.load_checkpoint(tmp_path / "grey.safetensors", ["a", "b"], first)[0] is not model
    with pytest.raises(ValueError, match=r"last.safetensors: trained on the classes \['a', 'b'\]"):
        predict.load_checkpoint(inputs / "last.safetensors", ["a", "c"], first)


def test_a_checkpoint_of_other_classes_is_refused(inputs, tmp_path):
    with pytest.raises(ValueError, match=r"best.safetensors: trained on the classes \['a', 'b'\], the images have"):
        predict.load_checkpoint(inputs / "best.safetensors", ["a", "c"])
    own = {"encoder": "tu-test_resnet", "decoder": "fpn"}
    predict.load_checkpoint(inputs / "best.safetensors", ["a", "b"], network=own)
    for other in ({"encoder": "tu-test_efficientnet"}, {"decoder": "unet"}):
        with pytest.raises(
            ValueError, match=r"best.safetensors: expected a network of .*, got one of .*tu-test_resnet"
        ):
            predict.load_checkpoint(inputs / "best.safetensors", ["a", "b"], network=own | other)
    write_state({"x": torch.zeros(1)}, tmp_path / "x.safetensors", {})
    with pytest.raises(ValueError, match=r"x.safetensors: not a checkpoint of cloudseg"):
        predict.load_checkpoint(tmp_path / "x.safetensors", ["a", "b"])
