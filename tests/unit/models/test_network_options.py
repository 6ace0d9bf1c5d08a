"""Networks with options of their decoder: images of any size go in and come out, and nothing else is changed."""

import pytest
import segmentation_models_pytorch as smp
import torch
from torch.nn import functional

from cloudseg.config.checkpoint_header import NetworkHead
from cloudseg.config.decoders import DECODERS, decoder_option_problems, decoder_options, demands
from cloudseg.models.segmenter import build_model

torch.set_num_threads(1)  # for networks this small a second thread mostly waits

OTHERS = {  # a value of each option, or several, that is not its default
    "decoder_use_norm": [False, "identity", {"type": "batchnorm", "eps": 1e-3, "momentum": 0.01}],
    "decoder_interpolation": ["nearest", "bilinear", "bicubic", "area", "nearest-exact"],
    "decoder_attention_type": ["scse"],
    "decoder_pab_channels": [1],
    "decoder_pyramid_channels": [8],
    "decoder_segmentation_channels": [32],
    "decoder_merge_policy": ["cat"],
    "decoder_dropout": [0, 0.5],
    "psp_out_channels": [8],
    "psp_dropout": [0, 0.5],
    "decoder_aspp_dropout": [0],
    "decoder_aspp_separable": [False, True],
    "decoder_atrous_rates": [[1, 2, 3]],
    "encoder_output_stride": [8, 16, 32],
    "encoder_output_indices": [[-4, -3, -2, -1]],
    "decoder_readout": ["ignore", "add"],
    "decoder_intermediate_channels": [[8, 8, 8, 8]],
    "decoder_fusion_channels": [8],
    "finest_level": [False],
}
INSTANCE_NORM = {"decoder_use_norm": {"type": "instancenorm", "affine": True}}
SEVERAL = [
    *((decoder, INSTANCE_NORM) for decoder in ("unet", "unetplusplus", "pspnet")),
    ("unet", {"decoder_attention_type": "scse", "decoder_channels": (64, 32, 16, 16, 16)}),
    ("fpn", {"finest_level": False, "decoder_merge_policy": "cat"}),
    ("fpn", {"decoder_merge_policy": "cat", "decoder_segmentation_channels": 32}),
]


def encoder_for(decoder):
    return "tu-test_vit" if decoder == "dpt" else "tu-test_resnet"


def choices(decoder):
    """Yield options of a decoder, one other than its default at a time."""
    for name, option in decoder_options(decoder).items():
        if name == "decoder_channels":
            default = option["default"]
            yield {name: 8 if isinstance(default, int) else [8] * len(default)}
        else:
            values = [{name: value} for value in OTHERS[name] if value != option["default"]]
            yield from (value for value in values if not decoder_option_problems(decoder, value))


EACH = [(decoder, options) for decoder in DECODERS for options in choices(decoder)]


def test_every_option_of_every_decoder_is_tried():
    tried = {(decoder, name) for decoder, options in EACH for name in options}
    assert tried == {(decoder, name) for decoder in DECODERS for name in decoder_options(decoder)}


@pytest.mark.parametrize(("decoder", "options"), [*EACH, *SEVERAL])
def test_masks_are_as_large_as_the_image_with_any_option(decoder, options):
    model = build_model(encoder_for(decoder), decoder, 2, options=options)
    asked = demands(decoder, options)
    assert model.stride == asked.stride
    logits = model(torch.randn(2, 3, asked.minimum, asked.minimum + 9))  # in training mode, norms and all
    assert logits.shape == (2, 2, asked.minimum, asked.minimum + 9)
    assert torch.isfinite(logits).all()
    logits.sum().backward()
    unused = [name for name, weight in model.network.decoder.named_parameters() if weight.grad is None]
    # smp's own: attention of blocks without a skip, and what the last fusion of DPT adds
    assert all("attention1" in name or "residual_conv_block1" in name for name in unused)


@pytest.mark.parametrize(("decoder", "stride"), [("deeplabv3", 16), ("deeplabv3plus", 8), ("pan", 32)])
def test_another_output_stride_asks_for_other_sizes(decoder, stride):
    options = {"encoder_output_stride": stride}
    network, asked = (
        build_model("tu-test_resnet", decoder, 2, options=options).network.eval(),
        demands(decoder, options),
    )
    side = -(-asked.minimum // asked.stride) * asked.stride
    with torch.no_grad():
        assert network(torch.zeros(1, 3, side, side + stride)).shape[-2:] == (side, side + stride)
        assert network.encoder(torch.zeros(1, 3, side, side))[-1].shape[-1] == side // stride
        with pytest.raises(RuntimeError):
            network(torch.zeros(1, 3, side + stride // 2, side))
        if decoder == "pan":
            with pytest.raises(RuntimeError):
                network(torch.zeros(1, 3, side - stride, side))


def test_attention_and_channels_reach_the_decoder():
    options = {"decoder_attention_type": "scse", "decoder_channels": [64, 48, 32, 24, 16]}
    decoder = build_model("tu-test_resnet", "unet", 2, options=options).network.decoder
    assert [block.conv2[0].out_channels for block in decoder.blocks] == [64, 48, 32, 24, 16]
    assert all(hasattr(block.attention2.attention, "cSE") for block in decoder.blocks)
    assert build_model("tu-test_resnet", "fpn", 2, options={"decoder_dropout": 0.5}).network.decoder.dropout.p == 0.5


def test_a_wrong_option_is_refused_before_anything_is_built():
    with pytest.raises(ValueError, match=r"decoder_options: fpn has no option 'decoder_droput' \(nearest: decoder_dro"):
        build_model("tu-test_resnet", "fpn", 2, options={"decoder_droput": 0.5})
    with pytest.raises(ValueError, match=r"cannot build dpt .* in range"):  # which blocks there are is timm's to say
        build_model("tu-test_vit", "dpt", 2, options={"encoder_output_indices": [0, 1, 2, 99]})


@pytest.mark.parametrize("decoder", ["unet", "fpn", "deeplabv3"])
def test_without_options_a_network_is_smps_own_draw_for_draw(decoder):
    torch.manual_seed(3)
    theirs = smp.create_model(decoder, "tu-test_resnet", encoder_weights=None, classes=2).state_dict()
    state = torch.get_rng_state()
    torch.manual_seed(3)
    ours = build_model("tu-test_resnet", decoder, ["a", "b"]).network.state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    assert list(ours) == list(theirs)
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())


def coarse_and_whole(**options):
    networks = []
    for finest in (False, True):
        torch.manual_seed(4)
        model = build_model("tu-test_resnet", "fpn", 2, options={"finest_level": finest, **options})
        networks.append(model.network.eval())
    return networks


def test_the_state_of_a_coarse_pyramid_is_part_of_that_of_the_whole():
    coarse, whole = (network.state_dict() for network in coarse_and_whole())
    gone = {key for key in whole if key.startswith(("decoder.p2.", "decoder.seg_blocks.3."))}
    assert len(gone) == 5
    assert list(coarse) == [key for key in whole if key not in gone]
    assert all(torch.equal(value, whole[key]) for key, value in coarse.items())


@pytest.mark.parametrize("policy", ["add", "cat"])
def test_a_coarse_pyramid_is_its_levels_of_8_16_and_32_merged(policy):
    network, _ = coarse_and_whole(decoder_merge_policy=policy)
    state = network.state_dict()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        features = network.encoder(image)
        merged = network.decoder(features)
    # By hand from the weights: top-down, then 3x3 convolutions, each but the last level's doubling the size
    *_, c3, c4, c5 = features
    levels = [functional.conv2d(c5, state["decoder.p5.weight"], state["decoder.p5.bias"])]
    for name, skip in (("p4", c4), ("p3", c3)):
        weight, bias = (state[f"decoder.{name}.skip_conv.{part}"] for part in ("weight", "bias"))
        above = levels[-1].repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
        levels.append(above + functional.conv2d(skip, weight, bias))
    parts = []
    for number, level in enumerate(levels):
        for layer in range(3 - number):
            of = f"decoder.seg_blocks.{number}.block.{layer}.block"
            level = functional.conv2d(level, state[f"{of}.0.weight"], padding=1)
            level = functional.relu(functional.group_norm(level, 32, state[f"{of}.1.weight"], state[f"{of}.1.bias"]))
            level = functional.interpolate(level, scale_factor=2.0, mode="bilinear", align_corners=True)
        parts.append(level)
    expected = sum(parts) if policy == "add" else torch.cat(parts, dim=1)
    assert merged.shape == (2, 128 if policy == "add" else 384, 16, 24)
    torch.testing.assert_close(merged, expected, rtol=1e-4, atol=1e-4)


def test_a_coarse_pyramid_cannot_show_what_is_smaller_than_its_levels():
    coarse, whole = coarse_and_whole()
    with torch.no_grad():
        features = coarse.encoder(torch.randn(1, 3, 64, 64))
        changed = list(features)
        changed[2] = features[2] + torch.randn_like(features[2])  # at 1/4, which only P2 sees
        assert torch.equal(coarse.decoder(features), coarse.decoder(changed))
        assert not torch.equal(whole.decoder(features), whole.decoder(changed))


@pytest.mark.parametrize("decoder", [name for name in DECODERS if name != "classifier"])
@pytest.mark.parametrize("pooling", ["avg", "max"])
def test_every_decoder_takes_a_head_on_the_last_features(decoder, pooling):
    torch.manual_seed(5)
    model = build_model(encoder_for(decoder), decoder, 3, head=NetworkHead(pooling, 0.5)).eval()
    side = -(-demands(decoder).minimum // 32) * 32
    image = torch.randn(2, 3, side, side + 32)
    with torch.no_grad():
        masks, values = model(image)
        features = model.network.encoder(image)
        last = (features[0] if decoder == "dpt" else features)[-1]
        pooled = last.mean(dim=(2, 3)) if pooling == "avg" else last.amax(dim=(2, 3))
        layer = model.network.classification_head[3]
        expected = pooled @ layer.weight.T + layer.bias
    assert model.has_head
    assert model.has_masks
    assert masks.shape == (2, 3, side, side + 32)
    torch.testing.assert_close(values, expected)
    assert model.network.classification_head[2].p == 0.5


@pytest.mark.parametrize("encoder", ["tu-test_resnet", "tu-test_vit", "resnet18", "mit_b0"])
@pytest.mark.parametrize("channels", [3, 1])
def test_a_classifier_takes_images_of_any_size(encoder, channels):
    model = build_model(encoder, "classifier", 3, channels=channels)
    assert (model.has_head, model.has_masks) == (True, False)
    assert {key.partition(".")[0] for key in model.network.state_dict()} == {"encoder", "classification_head"}
    for size in ((32, 32), (45, 70)):
        masks, values = model(torch.randn(2, channels, *size))
        assert masks is None
        assert values.shape == (2, 3)
        assert torch.isfinite(values).all()
    values.sum().backward()
