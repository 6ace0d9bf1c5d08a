"""What a classification head says of an image is averaged over the views and stored, beside planes if there are any."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from network_fixtures import pixels_of_test, write_folds, write_pixels
from torch.nn import functional

from cloudseg.config.checkpoint_header import NetworkHead, NetworkHeader
from cloudseg.config.recipe import Recipe
from cloudseg.config.views import FLIPS, IDENTITY, Crop, Variant
from cloudseg.inference import predict
from cloudseg.inference.predictor import Predictor
from cloudseg.inference.views import apply, mean_of_variants
from cloudseg.models.checkpoint_file import write_state
from cloudseg.models.preprocessing import normalise
from cloudseg.models.resize import resize
from cloudseg.models.segmenter import Segmenter, model_of
from cloudseg.storage import files, stores
from cloudseg.storage.class_values import values_path

NORM = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
VIEWS = ["identity", {"view": "horizontal", "weight": 2}, {"view": "both", "scale": 1.25}]
SIZE = (20, 30)
SHARD = 2 * 2 * 20 * 30  # bytes of the planes of two images of two classes
MASKS = NetworkHeader("tu-test_resnet", "fpn", ("a", "b"))
WITH_HEAD = NetworkHeader("tu-test_resnet", "fpn", ("a", "b"), head=NetworkHead(dropout=0.5))
CLASSIFIER = NetworkHeader("tu-test_resnet", "classifier", ("a", "b"))


def tell_apart(model, images):
    """Scale the head of a network so that its logits on some images lie about 0."""
    with torch.no_grad():
        layer, logits = model.network.classification_head[-2], model.eval()(images)[1]
        layer.bias.copy_((layer.bias - logits.mean(dim=0)) / logits.std(dim=0))
        layer.weight.div_(logits.std(dim=0)[:, None])


def stored_images(path):
    """Return the images of a pixel store as a network takes them."""
    return normalise(torch.from_numpy(stores.read_images(stores.read(path)["image"], slice(None))), **NORM)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    write_pixels(folder / "pixels.zarr")
    write_folds(folder / "folds.tsv")
    torch.manual_seed(0)
    for name, header in (("best", WITH_HEAD), ("last", WITH_HEAD), ("alone", CLASSIFIER)):
        model = model_of(header)
        tell_apart(model, stored_images(folder / "pixels.zarr"))
        write_state(model.network.state_dict(), folder / f"{name}.safetensors", header.metadata)
    write_state(model_of(MASKS).network.state_dict(), folder / "masks.safetensors", MASKS.metadata)
    return folder


@pytest.fixture
def two_in_a_shard(monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", SHARD)


def stores_of(folder, checkpoints):
    """Both stores of each checkpoint, by the names that a rule has for them."""
    planes = {name: folder / f"{name}-valid.zarr" for name in checkpoints}
    return planes | {f"{name}_values": values_path(path) for name, path in planes.items()}


def run(inputs, folder, batch=2, checkpoints=("best", "last"), outputs=None):
    recipe = Recipe(normalise=NORM, precision="float32", tta=VIEWS).model_copy(update={"batch": batch})
    job = predict.PredictionJob(
        checkpoints={name: inputs / f"{name}.safetensors" for name in checkpoints},
        outputs=outputs or stores_of(folder, checkpoints),
        pixels=inputs / "pixels.zarr",
        folds=inputs / "folds.tsv",
        fold=1,
        recipe=recipe,
        size=SIZE,
    )
    predict.predict(job)
    return job.outputs


def files_of(folder):
    return {file.relative_to(folder): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def test_a_value_is_the_weighted_mean_of_its_sigmoid_over_the_views(inputs, tmp_path, two_in_a_shard):
    outputs = run(inputs, tmp_path)
    image = stored_images(inputs / "pixels.zarr")[[9, 7, 5, 3, 1]]  # in the order of the table of folds
    for name in ("best", "last"):
        values = stores.read(outputs[f"{name}_values"])
        assert (values.shape, values.dtype, values.metadata.dimension_names) == ((5, 2), np.uint8, ("image", "class"))
        model = Predictor(inputs / f"{name}.safetensors", Recipe()).model
        padded = functional.pad(image, (8, 8, 0, 0), mode="reflect")  # to multiples of 32
        larger = functional.pad(resize(image.flip(2, 3), (40, 60)), (2, 2, 12, 12), mode="reflect")
        with torch.no_grad():
            one, two, three = (torch.sigmoid(model.network(each)[1]) for each in (padded, padded.flip(3), larger))
        expected = (one + 2 * two + three) / 4
        stored = stores.read_images(values, slice(None)).astype(int)
        assert np.abs(stored - np.floor(255 * expected.numpy() + 0.5)).max() <= 1
        assert np.ptp(stored, axis=0).min() > 5  # there was something to tell apart


def test_the_values_have_the_attributes_of_the_planes(inputs, tmp_path, two_in_a_shard):
    outputs = run(inputs, tmp_path)
    for name in ("best", "last"):
        planes, values = stores.read(outputs[name]), stores.read(outputs[f"{name}_values"])
        shards = {"shards", "complete"}
        own = [{key: each.attrs[key] for key in set(each.attrs) - shards} for each in (planes, values)]
        assert own[0] == own[1]
        assert set(own[0]) == {"ids", "classes", "run", "settings"}
        assert values.attrs["run"] == files.sha256(inputs / f"{name}.safetensors")
        assert values.attrs["shards"] == planes.attrs["shards"] == 3


def test_a_head_changes_no_plane(inputs, tmp_path, monkeypatch):
    torch.manual_seed(5)
    model, alone = model_of(WITH_HEAD).eval(), model_of(MASKS).eval()
    state = {key: value for key, value in model.network.state_dict().items() if "classification_head" not in key}
    alone.network.load_state_dict(state)
    images = torch.rand(2, 3, 40, 50)
    crop = Variant("crop", (Crop(0.75, 0.5),), 3)
    for variants in (FLIPS, [IDENTITY, crop]):
        with_head, without = (mean_of_variants(each, images, variants) for each in (model, alone))
        assert torch.equal(with_head.planes, without.planes)
        assert (with_head.values.shape, without.values) == ((2, 2), None)


def test_a_view_counts_for_a_value_by_its_weight_whatever_it_leaves_out():
    def model(images):  # the logit of a class is the first pixel of a channel
        return images, images[:, :, 0, 0]

    image = torch.tensor([[[[-1.0, 0.5, 1.0, 2.0]]]])
    crop = Variant("crop", (Crop(1, 0.5),), 3)
    seen_by_crop = apply(crop.operations[0], image)[0, 0, 0, 0]
    assert seen_by_crop > 0
    expected = (torch.sigmoid(torch.tensor(-1.0)) + 3 * torch.sigmoid(seen_by_crop)) / 4
    assert mean_of_variants(model, image, [IDENTITY, crop]).values.item() == pytest.approx(expected.item())


@pytest.mark.parametrize("stopped", ["values", "planes"])
@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_killed_prediction_goes_on_with_the_values_that_it_has(
    inputs, tmp_path, two_in_a_shard, monkeypatch, stopped, after
):
    run(inputs, tmp_path / "whole")
    real, written = stores.Writer.write, []

    def fail(writer, rows, block, name=""):
        if writer.path.name == {"values": "best-valid-values.zarr", "planes": "best-valid.zarr"}[stopped]:
            if len(written) == after:
                raise OSError("no space left on device")
            written.append(rows)
        real(writer, rows, block, name)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left on device"):
        patch.setattr(stores.Writer, "write", fail)
        run(inputs, tmp_path / "cut")
    assert not any((tmp_path / "cut").glob("best*.zarr"))
    made = []
    monkeypatch.setattr(stores.Writer, "write", lambda *each: (made.append((each[0].path.name, each[1])), real(*each)))
    run(inputs, tmp_path / "cut")
    rest = [slice(0, 2), slice(2, 4), slice(4, 5)][after:]
    assert [rows for name, rows in made if name == "best-valid.zarr"] == rest
    assert [rows for name, rows in made if name == "best-valid-values.zarr"] == rest
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_a_network_of_masks_alone_has_no_values_beside(inputs, tmp_path):
    outputs = run(inputs, tmp_path, checkpoints=["masks"], outputs={"masks": tmp_path / "masks-valid.zarr"})
    assert [each.name for each in tmp_path.iterdir()] == ["masks-valid.zarr"]
    assert not Predictor(inputs / "masks.safetensors", Recipe()).model.has_head
    stores.verify(outputs["masks"])


def test_less_memory_begins_both_stores_anew(inputs, tmp_path, two_in_a_shard, monkeypatch):
    monkeypatch.setattr(stores, "SHARD_BYTES", 5 * 2 * 20 * 30)
    run(inputs, tmp_path / "two", batch=2)
    forward = Segmenter.forward

    def limited(model, image):
        if len(image) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(model, image)

    monkeypatch.setattr(Segmenter, "forward", limited)
    run(inputs, tmp_path / "four", batch=4)
    assert files_of(tmp_path / "four") == files_of(tmp_path / "two")


def test_a_call_gives_planes_alone(inputs):
    images = stores.read_images(stores.read(pixels_of_test(inputs / "pixels.zarr"))["image"], slice(None))
    predictor = Predictor(inputs / "best.safetensors", Recipe(normalise=NORM, precision="float32"), size=SIZE)
    assert predictor(images).shape == predictor.probabilities(images).shape == (3, 2, *SIZE)
    assert predictor.quantised(images).values.shape == (3, 2)
    assert predictor.quantised(images).values.dtype == torch.uint8


def test_a_classifier_alone_writes_its_values_and_nothing_else(inputs, tmp_path, two_in_a_shard):
    out = tmp_path / "last-valid-values.zarr"
    run(inputs, tmp_path, checkpoints=["alone"], outputs={"alone_values": out})
    assert [each.name for each in tmp_path.iterdir()] == [out.name]
    values = stores.read(out)
    stores.verify(out)
    assert (values.shape, values.attrs["classes"], values.attrs["shards"]) == ((5, 2), ["a", "b"], 3)
    image = stored_images(inputs / "pixels.zarr")[[9, 7, 5, 3, 1]]
    model = Predictor(inputs / "alone.safetensors", Recipe()).model
    with torch.no_grad():  # by hand from the encoder's last features
        layer = model.network.classification_head[3]
        features = [
            model.network.encoder(view)[-1].mean(dim=(2, 3)) @ layer.weight.T + layer.bias
            for view in (image, image.flip(3), resize(image.flip(2, 3), (40, 60)))
        ]
    one, two, three = map(torch.sigmoid, features)
    expected = (one + 2 * two + three) / 4
    stored = stores.read_images(values, slice(None)).astype(int)
    assert np.abs(stored - np.floor(255 * expected.numpy() + 0.5)).max() <= 1
    assert np.ptp(stored, axis=0).min() > 5


def test_a_killed_prediction_of_a_classifier_goes_on(inputs, tmp_path, two_in_a_shard, monkeypatch):
    whole, cut = ({"alone_values": tmp_path / name / "values.zarr"} for name in ("whole", "cut"))
    run(inputs, tmp_path, checkpoints=["alone"], outputs=whole)
    real, written = stores.Writer.write, []

    def fail(*arguments):
        if len(written) == 1:
            raise OSError("no space left on device")
        written.append(arguments[1])
        real(*arguments)

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space left on device"):
        patch.setattr(stores.Writer, "write", fail)
        run(inputs, tmp_path, checkpoints=["alone"], outputs=cut)
    run(inputs, tmp_path, batch=4, checkpoints=["alone"], outputs=cut)  # a store that was begun keeps its batch
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_values_are_kept_where_the_job_names_a_store_and_nowhere_else(inputs, tmp_path, two_in_a_shard):
    both = run(inputs, tmp_path / "both", checkpoints=["best"])
    planes = tmp_path / "alone" / "planes.zarr"
    run(inputs, tmp_path, checkpoints=["best"], outputs={"best": planes})
    assert files_of(planes) == files_of(both["best"])
    assert [each.name for each in planes.parent.iterdir()] == [planes.name]


@pytest.mark.parametrize(
    ("checkpoint", "outputs", "complaint"),
    [
        ("masks", ("best", "best_values"), "expected a network with a classification head, got .* and no class"),
        ("alone", ("best", "best_values"), "expected a network with masks, got .* the decoder classifier and a class"),
        ("best", ("best_values",), "expected a classifier alone, got .* with the decoder fpn and a class"),
    ],
)
def test_another_kind_of_network_than_the_rule_expects_is_refused(inputs, tmp_path, checkpoint, outputs, complaint):
    job = predict.PredictionJob(
        checkpoints={"best": inputs / f"{checkpoint}.safetensors"},
        outputs={name: tmp_path / f"{name}.zarr" for name in outputs},
        pixels=inputs / "pixels.zarr",
        recipe=Recipe(normalise=NORM, precision="float32"),
        size=SIZE,
    )
    with pytest.raises(ValueError, match=rf"{checkpoint}\.safetensors: {complaint}"):
        predict.predict(job)
    assert not any(tmp_path.iterdir())


def test_a_classifier_has_no_planes_to_ask_for(inputs):
    images = stores.read_images(stores.read(pixels_of_test(inputs / "pixels.zarr"))["image"], slice(None))
    predictor = Predictor(inputs / "alone.safetensors", Recipe(normalise=NORM, precision="float32"), size=SIZE)
    for ask in (predictor, predictor.probabilities):
        with pytest.raises(ValueError, match="a classifier says which classes are in an image, and gives no planes"):
            ask(images)
    quantised = predictor.quantised(images)
    assert (quantised.planes, quantised.values.shape) == (None, (3, 2))


class Files(dict):
    """The named files of a rule, as Snakemake has them."""

    __getattr__ = dict.__getitem__


def test_a_rule_predicts_the_checkpoints_that_it_has(tmp_path):
    def job_of(*names):
        rule = SimpleNamespace(
            input=Files({name: f"{name}.safetensors" for name in names}, pixels="pixels.zarr"),
            output=Files({f"{name}_values": f"{name}-test-values.zarr" for name in names}),
            params=SimpleNamespace(recipe={}, submission_size=[20, 30], threads=1, code=0),
            wildcards=SimpleNamespace(fold="0", encoder="resnet18", decoder="classifier"),
        )
        return predict.PredictionJob.of_rule(rule)

    for names in (["best", "last"], ["best", "last", "average"], ["last"]):
        job = job_of(*names)
        assert list(job.checkpoints) == names
        assert job.outputs == {f"{name}_values": f"{name}-test-values.zarr" for name in names}
