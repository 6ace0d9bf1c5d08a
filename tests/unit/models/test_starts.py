"""Networks start from an encoder, or from a whole network but for last layers of other classes."""

import dataclasses

import pytest
import torch

from cloudseg.config.checkpoint_header import NetworkHead, NetworkHeader, network_start_problem, start_problem
from cloudseg.models.checkpoint_file import read_state, write_state
from cloudseg.models.segmenter import build_model, model_of
from cloudseg.models.weights import initial_weights

torch.set_num_threads(1)  # for networks this small a second thread mostly waits

HEAD = NetworkHead("max", 0.3)
FPN = NetworkHeader("tu-test_resnet", "fpn", ("a", "b"))
WITH_HEAD = dataclasses.replace(FPN, head=HEAD)


def checkpoint(path, header, seed=1, epoch=7):
    """Write a checkpoint as a training does, and return its state."""
    torch.manual_seed(seed)
    state = model_of(header).network.state_dict()
    for key, value in state.items():
        if key.endswith(("running_mean", "running_var")):
            value.uniform_(1, 2)  # as a training leaves them
    write_state(state, path, header.metadata | {"epoch": epoch})
    return state


def started(tmp_path, source, header, seed=2):
    """Return the state of a network that starts from another, those of both before, and torch's random state."""
    theirs = checkpoint(tmp_path / "last.safetensors", source)
    weights = tmp_path / "weights.safetensors"
    initial_weights(source.encoder, f"network:{tmp_path / 'last.safetensors'}", weights)
    torch.manual_seed(seed)
    drawn = model_of(header).network.state_dict()
    random = torch.get_rng_state()
    torch.manual_seed(seed)
    state = model_of(header, weights=weights).network.state_dict()
    assert torch.equal(torch.get_rng_state(), random)  # a start draws nothing
    return state, theirs, drawn


def same(state, other, keys):
    return all(torch.equal(state[key], other[key]) for key in keys)


def test_the_weights_of_a_network_start_are_the_checkpoint_and_say_what_they_are(tmp_path):
    header = dataclasses.replace(WITH_HEAD, options={"finest_level": False})
    theirs = checkpoint(tmp_path / "last.safetensors", header)
    torch.manual_seed(0)
    before = torch.get_rng_state()
    out = tmp_path / "weights.safetensors"
    initial_weights("tu-test_resnet", f"network:{tmp_path / 'last.safetensors'}", out)
    assert torch.equal(torch.get_rng_state(), before)
    state, metadata = read_state(out)
    assert metadata == header.metadata | {"start": "network"}
    assert list(state) == sorted(theirs)
    assert same(state, theirs, theirs)
    assert start_problem(out, "tu-test_resnet") is None


@pytest.mark.parametrize("header", [FPN, WITH_HEAD, NetworkHeader("tu-test_resnet", "classifier", ("a", "b"))])
def test_a_network_of_the_same_classes_is_taken_as_a_whole(tmp_path, header):
    state, theirs, drawn = started(tmp_path, header, header)
    assert state.keys() == theirs.keys() == drawn.keys()
    assert same(state, theirs, state)


@pytest.mark.parametrize("classes", [("brightness",), ("a", "c"), ("b", "a"), ("a", "b", "c")])
def test_a_last_layer_of_other_classes_stays_as_it_was_drawn(tmp_path, classes):
    header = dataclasses.replace(WITH_HEAD, classes=classes)
    state, theirs, drawn = started(tmp_path, WITH_HEAD, header)
    last = {"segmentation_head.0.weight", "segmentation_head.0.bias"}
    last |= {"classification_head.3.weight", "classification_head.3.bias"}
    assert same(state, drawn, last)
    assert same(state, theirs, set(state) - last)
    assert not same(drawn, theirs, ["decoder.p5.weight"])


def test_a_number_of_classes_without_names_fits_as_many(tmp_path):
    theirs = checkpoint(tmp_path / "last.safetensors", FPN)
    initial_weights("tu-test_resnet", f"network:{tmp_path / 'last.safetensors'}", tmp_path / "weights.safetensors")
    state = build_model("tu-test_resnet", "fpn", 2, weights=tmp_path / "weights.safetensors").network.state_dict()
    assert same(state, theirs, state)


def test_of_the_head_of_a_dpt_only_its_last_layer_is_drawn_anew(tmp_path):
    source = NetworkHeader("tu-test_vit", "dpt", ("a", "b"))
    state, theirs, drawn = started(tmp_path, source, dataclasses.replace(source, classes=("a",)))
    last = {"segmentation_head.head.4.weight", "segmentation_head.head.4.bias"}
    assert same(state, drawn, last)
    assert same(state, theirs, set(state) - last)
    assert "segmentation_head.head.1.running_mean" in state


def test_a_head_may_come_or_go_with_the_start(tmp_path):
    state, theirs, drawn = started(tmp_path, FPN, WITH_HEAD)
    head = {key for key in state if key.startswith("classification_head.")}
    assert len(head) == 2
    assert same(state, drawn, head)
    assert same(state, theirs, theirs)
    state, theirs, _ = started(tmp_path, WITH_HEAD, FPN)
    assert set(theirs) - set(state) == head
    assert same(state, theirs, state)


def test_options_that_keep_the_shapes_may_differ_and_a_last_layer_of_another_shape_is_drawn(tmp_path):
    header = dataclasses.replace(FPN, options={"decoder_dropout": 0.5, "decoder_merge_policy": "cat"})
    state, theirs, drawn = started(tmp_path, FPN, header)
    last = {"segmentation_head.0.weight", "segmentation_head.0.bias"}
    assert drawn["segmentation_head.0.weight"].shape != theirs["segmentation_head.0.weight"].shape
    assert same(state, drawn, last)
    assert same(state, theirs, set(state) - last)


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        (NetworkHeader("tu-test_resnet", "unet", ("a", "b")), "expected a network with the decoder unet, got .* fpn"),
        (
            NetworkHeader("tu-test_resnet", "fpn", ("a", "b"), options={"finest_level": False}),
            r"does not fit this network: .* keys are not known \(first: decoder.p2.*same `decoder_options`",
        ),
        (
            NetworkHeader("tu-test_resnet", "fpn", ("a", "b"), options={"decoder_pyramid_channels": 128}),
            "does not fit this network: .* keys differ in shape",
        ),
    ],
)
def test_another_decoder_or_other_options_are_refused(tmp_path, header, complaint):
    with pytest.raises(ValueError, match=rf"weights\.safetensors: {complaint}"):
        started(tmp_path, FPN, header)


def test_a_grey_network_sums_the_colours_of_its_start(tmp_path):
    state, theirs, _ = started(tmp_path, FPN, dataclasses.replace(FPN, channels=1))
    first = "encoder.model.conv1.0.weight"
    assert theirs[first].shape[1] == 3
    torch.testing.assert_close(state[first], theirs[first].sum(dim=1, keepdim=True))
    assert same(state, theirs, set(state) - {first})


def test_a_network_start_is_refused_for_another_encoder_or_a_damaged_file(tmp_path):
    path, out = tmp_path / "last.safetensors", tmp_path / "weights.safetensors"
    state = checkpoint(path, FPN)
    with pytest.raises(ValueError, match=r"last\.safetensors: expected a network of .*test_efficientnet"):
        initial_weights("tu-test_efficientnet", f"network:{path}", out)
    write_state(model_of(FPN).network.encoder.state_dict(), path, {"encoder": "tu-test_resnet"})
    with pytest.raises(ValueError, match="not a checkpoint of cloudseg"):
        initial_weights("tu-test_resnet", f"network:{path}", out)
    write_state(dict(list(state.items())[1:]), path, FPN.metadata)
    with pytest.raises(ValueError, match="1 keys are missing"):
        initial_weights("tu-test_resnet", f"network:{path}", out)
    assert not out.exists()


OPTIONS = [
    ("fpn", {"finest_level": False}),
    ("fpn", {"finest_level": False, "decoder_merge_policy": "cat"}),
    ("fpn", {"decoder_merge_policy": "cat"}),
    ("fpn", {"decoder_dropout": 0.5, "decoder_interpolation": "bilinear"}),
    ("fpn", {"decoder_segmentation_channels": 64}),
    ("unet", {"decoder_attention_type": "scse"}),
    ("unet", {"decoder_channels": [128, 64, 32, 16, 8]}),
    ("unet", {"decoder_use_norm": False}),
    ("unet", {"decoder_use_norm": True}),
    ("unet", {"decoder_use_norm": {"type": "batchnorm", "momentum": 0.5}}),
    ("unet", {"decoder_use_norm": {"type": "instancenorm", "affine": True}}),
    ("pspnet", {"psp_dropout": 0.5}),
    ("pspnet", {"psp_out_channels": 64}),
    ("deeplabv3plus", {"encoder_output_stride": 8, "decoder_atrous_rates": [1, 2, 3], "decoder_aspp_dropout": 0}),
    ("deeplabv3plus", {"decoder_aspp_separable": False}),
    ("manet", {"decoder_pab_channels": 8}),
    ("dpt", {"encoder_output_indices": [-4, -3, -2, -1]}),
    ("dpt", {"decoder_readout": "ignore"}),
    ("dpt", {"decoder_fusion_channels": 64}),
]


@pytest.mark.parametrize(("decoder", "options"), OPTIONS)
def test_which_options_a_start_may_differ_in_is_known_before_anything_is_trained(tmp_path, decoder, options):
    source = NetworkHeader("tu-test_vit" if decoder == "dpt" else "tu-test_resnet", decoder, ("a", "b"))
    target = dataclasses.replace(source, options=options)
    for one, other in ((source, target), (target, source), (target, target)):
        if network_start_problem(one, other) is None:
            started(tmp_path, one, other)
        else:
            with pytest.raises(ValueError, match="does not fit this network"):
                started(tmp_path, one, other)


@pytest.mark.parametrize("encoder", ["tu-test_resnet", "tu-test_vit"])
def test_a_classifier_and_a_network_of_masks_start_from_each_others_encoder(tmp_path, encoder):
    masks = NetworkHeader(encoder, "dpt" if encoder == "tu-test_vit" else "unet", ("a", "b"))
    classifier = NetworkHeader(encoder, "classifier", ("a", "b"))
    for source, header in ((masks, classifier), (classifier, masks)):
        theirs = checkpoint(tmp_path / "last.safetensors", source)
        initial_weights(encoder, f"file:{tmp_path / 'last.safetensors'}", tmp_path / "weights.safetensors")
        state = model_of(header, weights=tmp_path / "weights.safetensors").network.state_dict()
        shared = {key for key in theirs if key.startswith("encoder.")}
        assert shared == {key for key in state if key.startswith("encoder.")}
        assert same(state, theirs, shared)


def test_the_file_of_a_network_start_is_the_start_of_an_encoder_too(tmp_path):
    theirs = checkpoint(tmp_path / "last.safetensors", WITH_HEAD)
    initial_weights("tu-test_resnet", f"network:{tmp_path / 'last.safetensors'}", tmp_path / "whole.safetensors")
    initial_weights("tu-test_resnet", f"file:{tmp_path / 'whole.safetensors'}", tmp_path / "weights.safetensors")
    state, metadata = read_state(tmp_path / "weights.safetensors")
    assert metadata == {"encoder": "tu-test_resnet", "start": "file"}
    assert state
    assert all(torch.equal(value, theirs[f"encoder.{key}"]) for key, value in state.items())
