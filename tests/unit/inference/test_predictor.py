"""A predictor takes images as they are read and gives what prediction stores."""

import re
import shutil

import cv2
import numpy as np
import pytest
import torch
from network_fixtures import run_record, write_pixels

from cloudseg.config.recipe import Recipe
from cloudseg.config.views import FLIPS, IDENTITY
from cloudseg.inference.predict import PredictionJob, predict
from cloudseg.inference.predictor import Predictor
from cloudseg.models.checkpoint_file import write_state
from cloudseg.models.segmenter import build_model
from cloudseg.storage import stores

METADATA = {"encoder": "tu-test_resnet", "decoder": "fpn", "classes": ["a", "b"]}
SIZE = (20, 30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    for number, name in enumerate(("best", "last")):
        torch.manual_seed(number)
        network = build_model("tu-test_resnet", "fpn", 2).network
        write_state(network.state_dict(), folder / f"{name}.safetensors", METADATA)
    grey = build_model("tu-test_resnet", "fpn", 2, channels=1).network
    write_state(grey.state_dict(), folder / "grey.safetensors", METADATA | {"channels": 1})
    return folder


def photo(size=(32, 48), seed=0):
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)


def test_a_new_image_is_predicted_from_its_file(folder, tmp_path, monkeypatch, repo):
    """As the page says that a person does it who has a run's folder and a photo."""
    page = (repo / "docs/how-to.md").read_text(encoding="utf-8").partition("## Predict a new image")[2]
    code = re.search(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)[1]
    run = tmp_path / re.search(r'Path\("(.+)"\)', code)[1]
    run.mkdir(parents=True)
    shutil.copy(folder / "best.safetensors", run)
    recipe = Recipe(precision="float32").model_dump(mode="json", exclude={"start", "tta"})
    run_record(recipe=recipe, sha256={}).write(run / "run.json")
    file = tmp_path / re.search(r'load_image\("(.+?)"\)', code)[1]
    file.parent.mkdir(parents=True)
    cv2.imwrite(str(file), photo((128, 192)))
    monkeypatch.chdir(tmp_path)

    names = {}
    exec(code, names)  # noqa: S102 (the page's own code)

    assert (names["probabilities"].shape, names["probabilities"].dtype) == ((1, 2, 350, 525), np.uint8)
    assert list(names["masks"]) == ["a", "b"]
    assert names["probabilities"].std() > 5  # there was something to tell apart


@pytest.mark.parametrize("checkpoint", ["best", "grey"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_a_call_gives_the_bytes_that_prediction_stores(folder, tmp_path, checkpoint, precision):
    write_pixels(tmp_path / "pixels.zarr", train=4)
    tta = ["identity", {"view": "both", "scale": 1.5, "weight": 2}]
    recipe = Recipe(tta=tta, precision=precision, batch=4)
    path, store = folder / f"{checkpoint}.safetensors", tmp_path / "store.zarr"
    job = PredictionJob(
        checkpoints={"best": path}, pixels=tmp_path / "pixels.zarr", outputs={"best": store}, recipe=recipe, size=SIZE
    )
    predict(job)
    images = stores.read_images(stores.read(tmp_path / "pixels.zarr")["image"], slice(None))
    predictor = Predictor(path, recipe, size=SIZE)
    assert np.array_equal(predictor(images), stores.read_images(store, slice(None)))
    real = predictor.probabilities(images)
    assert real.dtype == torch.float32
    assert np.array_equal(np.floor(np.float32(255) * real.numpy() + np.float32(0.5)), predictor(images))


def test_other_views_may_be_asked_for(folder):
    images = np.stack([photo(seed=number) for number in range(3)])
    predictor = Predictor(folder / "best.safetensors", Recipe(tta=["identity"]))
    plain = predictor.probabilities(images)
    assert plain.shape == (3, 2, 32, 48)  # without a size, that of the images
    assert torch.equal(plain, predictor.probabilities(images, [IDENTITY]))
    flipped = predictor.probabilities(np.ascontiguousarray(images[:, :, ::-1]), [FLIPS[1]])
    assert torch.allclose(flipped.flip(3), plain, atol=1e-6)


def test_images_of_another_kind_are_refused(folder):
    predictor = Predictor(folder / "best.safetensors", Recipe(tta=[{"view": "identity", "scale": 0.5}]))
    for images in (photo(), photo()[None] / 255, photo()[None, ..., :1]):
        with pytest.raises(TypeError, match=r"expected images \(N, H, W, 3\) of uint8, got \("):
            predictor(images)
    with pytest.raises(ValueError, match="at least 32 pixels in all views for fpn, got 16 from 32x48"):
        predictor(photo()[None])


def test_checkpoints_of_one_kind_share_a_network(folder):
    first = Predictor(folder / "best.safetensors", Recipe())
    first.model.train()
    second = Predictor(folder / "last.safetensors", Recipe(), previous=first)
    alone = Predictor(folder / "last.safetensors", Recipe())
    assert second.model is first.model
    assert second.header == alone.header
    assert not second.model.training
    assert alone.model is not second.model
    shared = second.model.state_dict()
    assert all(torch.equal(value, shared[key]) for key, value in alone.model.state_dict().items())
    assert Predictor(folder / "grey.safetensors", Recipe(), previous=first).model is not first.model
    with pytest.raises(ValueError, match=r"last.safetensors: expected the classes .*, got \['a', 'b'\]"):
        Predictor(folder / "last.safetensors", Recipe(), classes=["a", "c"], previous=first)


def test_a_checkpoint_of_other_classes_is_refused(folder, tmp_path):
    best = folder / "best.safetensors"
    with pytest.raises(ValueError, match=r"best.safetensors: expected the classes .*, got \['a', 'b'\]"):
        Predictor(best, Recipe(), classes=["a", "c"])
    own = {"encoder": "tu-test_resnet", "decoder": "fpn"}
    Predictor(best, Recipe(), classes=["a", "b"], network=own)
    for other in ({"encoder": "tu-test_efficientnet"}, {"decoder": "unet"}):
        with pytest.raises(
            ValueError, match=r"best.safetensors: expected a network of .*, got one of .*tu-test_resnet"
        ):
            Predictor(best, Recipe(), classes=["a", "b"], network=own | other)
    write_state({"x": torch.zeros(1)}, tmp_path / "x.safetensors", {})
    with pytest.raises(ValueError, match=r"x.safetensors: not a checkpoint of cloudseg"):
        Predictor(tmp_path / "x.safetensors", Recipe())
