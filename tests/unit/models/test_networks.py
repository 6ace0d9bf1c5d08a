import inspect
import json
import subprocess
import sys

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file
from torch import nn

from cloudseg.config.decoders import DECODERS
from cloudseg.models import networks as models
from cloudseg.training.dataset import normalise

torch.set_num_threads(1)  # for networks this small a second thread mostly waits
CONSTRUCTORS = smp.MODEL_ARCHITECTURES_MAPPING


def encoder_for(decoder):
    return "tu-test_vit" if decoder == "dpt" else "tu-test_resnet"


def test_the_table_is_read_without_torch():
    code = "import sys, cloudseg.config.decoders; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_table_has_every_decoder_of_smp():
    assert set(DECODERS) == set(CONSTRUCTORS)


@pytest.mark.parametrize("decoder", DECODERS)
def test_table_tells_what_smp_asks_of_sizes(decoder):
    model = models.build_model(encoder_for(decoder), decoder, 2)
    network, asked = model.network, DECODERS[decoder]
    # Any size goes in and comes out; in training mode, where BatchNorm meets the smallest features
    with torch.no_grad():
        logits = model(torch.randn(2, 3, asked.minimum, asked.minimum + 9))
    assert logits.shape == (2, 2, asked.minimum, asked.minimum + 9)
    assert torch.isfinite(logits).all()
    network.eval()

    def takes(height, width):
        with torch.no_grad():
            return network(torch.zeros(1, 3, height, width)).shape[-2:] == (height, width)

    side = -(-asked.minimum // asked.stride) * asked.stride
    assert takes(side, side + 3 * asked.stride)
    if asked.stride > 1:
        refused = side + asked.stride // 2
        with pytest.raises(RuntimeError):
            takes(refused, refused)
    if asked.minimum > 32:
        with pytest.raises(RuntimeError):
            takes(side - asked.stride, side)
    depth = inspect.signature(CONSTRUCTORS[decoder]).parameters["encoder_depth"].default
    assert asked.stages == depth


def test_margin_continues_the_image_and_is_cropped_away():
    seen = []

    class Look(nn.Module):
        def forward(self, image):
            seen.append(image)
            return image

    image = torch.arange(40.0 * 50).reshape(1, 1, 40, 50).expand(1, 3, 40, 50)
    out = models.Segmenter(Look(), 32)(image)
    assert torch.equal(out, image)
    padded = seen[0]
    assert padded.shape[-2:] == (64, 64)
    assert torch.equal(padded[..., 12:52, 7:57], image)
    assert torch.equal(padded[0, 0, 11, 7:57], image[0, 0, 1])  # the row beyond the edge mirrors the one within
    assert torch.equal(padded.flip(-2)[..., 12:52, :].flip(-2), padded[..., 12:52, :])  # as much on either side


def test_initial_weights_are_loaded_key_by_key(tmp_path):
    path = tmp_path / "encoder.safetensors"
    source = models.build_model("tu-test_resnet", "fpn", 1).network.encoder.state_dict()
    models.write_state(source, path, {})
    model = models.build_model("tu-test_resnet", "unet", 1, weights=path)
    assert all(torch.equal(value, source[key]) for key, value in model.network.encoder.state_dict().items())

    shallow = models.build_model("tu-test_resnet", "pspnet", 1, weights=path)  # uses three stages of the five
    assert all(torch.equal(value, source[key]) for key, value in shallow.network.encoder.state_dict().items())

    with pytest.raises(ValueError, match=r"encoder.safetensors: does not fit.*are missing.*are not known"):
        models.build_model("resnet18", "unet", 1, weights=path)

    cut = {key: value for number, (key, value) in enumerate(source.items()) if number}
    models.write_state(cut, path, {})
    with pytest.raises(ValueError, match=r"1 keys are missing \(first: model.conv1"):
        models.build_model("tu-test_resnet", "unet", 1, weights=path)


@pytest.mark.parametrize(
    ("encoder", "decoder"),
    [
        ("tu-test_resnet", "pspnet"),
        ("tu-test_efficientnet", "fpn"),
        ("tu-test_vit", "dpt"),
        ("resnet18", "unet"),
        ("efficientnet-b0", "unet"),
        ("mit_b0", "unet"),
    ],
)
def test_a_grey_network_begins_as_the_colour_network_of_the_same_weights(tmp_path, encoder, decoder):
    path = tmp_path / "encoder.safetensors"
    colour = models.build_model(encoder, "dpt" if decoder == "dpt" else "unet", 1).network.encoder.eval()
    models.write_state(colour.state_dict(), path, {})
    grey = models.build_model(encoder, decoder, 1, weights=path, channels=1).network.encoder.eval()
    pixels = torch.randint(0, 256, (2, 64, 96, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen = [normalise(pixels.expand(-1, -1, -1, 3), [0.4] * 3, [0.2] * 3, channels) for channels in (3, 1)]
    with torch.no_grad():
        features = [encoder_of(image) for encoder_of, image in zip((colour, grey), seen, strict=True)]
    if decoder == "dpt":  # beside its features it gives its prefix tokens
        features = [of[0] for of in features]
    pairs = [(a, b) for a, b in zip(*features, strict=False) if a.shape == b.shape]
    assert len(pairs) >= 3
    for expected, came in pairs:
        torch.testing.assert_close(came, expected, rtol=1e-3, atol=1e-4)


def test_a_grey_checkpoint_is_not_taken_for_one_of_colours(tmp_path):
    path = tmp_path / "grey.safetensors"
    grey = models.build_model("tu-test_resnet", "fpn", 1, channels=1)
    assert grey(torch.zeros(2, 1, 40, 50)).shape == (2, 1, 40, 50)
    models.write_state(grey.network.encoder.state_dict(), path, {})
    again = models.build_model("tu-test_resnet", "fpn", 1, weights=path, channels=1).network.encoder.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in grey.network.encoder.state_dict().items())
    with pytest.raises(
        ValueError, match=r"1 keys differ in shape \(first: model.conv1.*same encoder, decoder and chan"
    ):
        models.build_model("tu-test_resnet", "fpn", 1, weights=path)


def test_unknown_names_are_told_with_what_is_near():
    with pytest.raises(ValueError, match="no decoder is called 'fnp'; nearest: fpn"):
        models.build_model("tu-test_resnet", "fnp", 1)
    for encoder in ("resnet81", "tu-hf-hub:timm/resnet18", "tu-local-dir:here", ["resnet18"]):
        with pytest.raises(ValueError, match="no encoder is called"):
            models.build_model(encoder, "fpn", 1)
    with pytest.raises(ValueError, match=r"cannot build dpt on the encoder 'resnet18'"):
        models.build_model("resnet18", "dpt", 1)


def test_states_have_the_same_bytes_and_say_when_they_are_cut(tmp_path):
    state = {"b": torch.arange(3.0), "a": torch.ones(2, 2).t()}
    about = {"encoder": "resnet18", "decoder": "fpn", "classes": ["b", "a"], "epoch": 3}
    for name in ("one", "two"):
        models.write_state(state, tmp_path / name, about)
    whole = (tmp_path / "one").read_bytes()
    assert whole == (tmp_path / "two").read_bytes()
    read, told = models.read_state(tmp_path / "one")
    assert told == about
    assert all(torch.equal(read[key], state[key]) for key in state)
    (tmp_path / "cut").write_bytes(whole[:-5])
    with pytest.raises(ValueError, match="cut: not a whole safetensors file"):
        models.read_state(tmp_path / "cut")


@pytest.mark.parametrize(
    ("about", "complaint"),
    [
        ({"encoder": "tu-hf-hub:somebody/network"}, "no encoder is called 'tu-hf-hub:somebody/network'"),
        ({"encoder": "tu-local-dir:here"}, "no encoder is called 'tu-local-dir:here'"),
        ({"encoder": ["resnet18"]}, "no encoder is called"),
        ({"encoder": None}, "no encoder is called"),
        ({"decoder": {}}, "no decoder is called"),
        ({"classes": "ab"}, "classes: expected a list of 1 to 64 names, got 'ab'"),
        ({"classes": ["a"] * 10**6}, "classes: expected a list of 1 to 64 names"),
        ({"classes": [1, 2]}, "classes: expected a list"),
        ({"channels": 10**9}, "channels: expected 1 or 3, got 1000000000"),
        ({"channels": [3]}, "channels: expected 1 or 3, got [3]"),
        ({"channels": True}, "channels: expected 1 or 3, got True"),
        ({"channels": float("nan")}, "channels: expected 1 or 3, got nan"),
        ({"epoch": "last"}, "epoch: expected a whole number from 0, got 'last'"),
        ({"checksum": 1e999}, "checksum: expected a whole number"),
        ({"checksum": {}}, "checksum: expected a whole number"),
        ({"start": 3}, "start: expected text, got 3"),
        ([1, 2], "expected a mapping, got [1, 2]"),
        (3, "expected a mapping, got 3"),
        (None, "expected a mapping, got None"),
    ],
)
def test_what_a_foreign_checkpoint_says_of_itself_is_checked(about, complaint, tmp_path):
    path = tmp_path / "given.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata={"cloudseg": json.dumps(about)})
    with pytest.raises(ValueError, match=r"given\.safetensors: its metadata are no checkpoint's: ") as error:
        models.read_state(path)
    assert complaint in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("text", ["[" * 10**5, "{", "", '{"epoch": ' + "9" * 5000 + "}"])
def test_metadata_that_are_no_json_are_named(text, tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "given.safetensors", metadata={"cloudseg": text})
    with pytest.raises(ValueError, match=r"given\.safetensors: its metadata"):
        models.read_state(tmp_path / "given.safetensors")


@pytest.mark.parametrize("metadata", [3, [], {"cloudseg": 3}, {"cloudseg": ["x"]}, {"cloudseg": {}}, None])
def test_metadata_of_odd_types_are_named(metadata, tmp_path):
    header = {"__metadata__": metadata, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    (tmp_path / "given.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    try:
        state, about = models.read_state(tmp_path / "given.safetensors")
    except ValueError as error:
        assert "given.safetensors: not a whole safetensors file" in str(error)
    else:  # null is no metadata
        assert metadata is None
        assert (about, state["a"].tolist()) == ({}, [0])
