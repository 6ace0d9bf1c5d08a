import inspect
import subprocess
import sys

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from cloudseg.config.decoders import CLASSIFIER, DECODERS
from cloudseg.models.checkpoint_file import write_state
from cloudseg.models.preprocessing import normalise
from cloudseg.models.segmenter import Segmenter, build_model

torch.set_num_threads(1)  # for networks this small a second thread mostly waits
CONSTRUCTORS = smp.MODEL_ARCHITECTURES_MAPPING


def encoder_for(decoder):
    return "tu-test_vit" if decoder == "dpt" else "tu-test_resnet"


def test_the_table_is_read_without_torch():
    code = "import sys, cloudseg.config.decoders; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_table_has_every_decoder_of_smp():
    assert set(DECODERS) == {*CONSTRUCTORS, CLASSIFIER}


@pytest.mark.parametrize("decoder", CONSTRUCTORS)
def test_table_tells_what_smp_asks_of_sizes(decoder):
    model = build_model(encoder_for(decoder), decoder, 2)
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
    out = Segmenter(Look(), 32)(image)
    assert torch.equal(out, image)
    padded = seen[0]
    assert padded.shape[-2:] == (64, 64)
    assert torch.equal(padded[..., 12:52, 7:57], image)
    assert torch.equal(padded[0, 0, 11, 7:57], image[0, 0, 1])  # the row beyond the edge mirrors the one within
    assert torch.equal(padded.flip(-2)[..., 12:52, :].flip(-2), padded[..., 12:52, :])  # as much on either side


def test_initial_weights_are_loaded_key_by_key(tmp_path):
    path = tmp_path / "encoder.safetensors"
    source = build_model("tu-test_resnet", "fpn", 1).network.encoder.state_dict()
    write_state(source, path, {})
    model = build_model("tu-test_resnet", "unet", 1, weights=path)
    assert all(torch.equal(value, source[key]) for key, value in model.network.encoder.state_dict().items())

    shallow = build_model("tu-test_resnet", "pspnet", 1, weights=path)  # uses three stages of the five
    assert all(torch.equal(value, source[key]) for key, value in shallow.network.encoder.state_dict().items())

    with pytest.raises(ValueError, match=r"encoder.safetensors: does not fit.*are missing.*are not known"):
        build_model("resnet18", "unet", 1, weights=path)

    cut = {key: value for number, (key, value) in enumerate(source.items()) if number}
    write_state(cut, path, {})
    with pytest.raises(ValueError, match=r"1 keys are missing \(first: model.conv1"):
        build_model("tu-test_resnet", "unet", 1, weights=path)


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
    colour = build_model(encoder, "dpt" if decoder == "dpt" else "unet", 1).network.encoder.eval()
    write_state(colour.state_dict(), path, {})
    grey = build_model(encoder, decoder, 1, weights=path, channels=1).network.encoder.eval()
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
    grey = build_model("tu-test_resnet", "fpn", 1, channels=1)
    assert grey(torch.zeros(2, 1, 40, 50)).shape == (2, 1, 40, 50)
    write_state(grey.network.encoder.state_dict(), path, {})
    again = build_model("tu-test_resnet", "fpn", 1, weights=path, channels=1).network.encoder.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in grey.network.encoder.state_dict().items())
    with pytest.raises(
        ValueError, match=r"1 keys differ in shape \(first: model.conv1.*same encoder, decoder and chan"
    ):
        build_model("tu-test_resnet", "fpn", 1, weights=path)


def test_unknown_names_are_told_with_what_is_near():
    with pytest.raises(ValueError, match="no decoder is called 'fnp'; nearest: fpn"):
        build_model("tu-test_resnet", "fnp", 1)
    for encoder in ("resnet81", "tu-hf-hub:timm/resnet18", "tu-local-dir:here", ["resnet18"]):
        with pytest.raises(ValueError, match="no encoder is called"):
            build_model(encoder, "fpn", 1)
    with pytest.raises(ValueError, match=r"cannot build dpt on the encoder 'resnet18'"):
        build_model("resnet18", "dpt", 1)
