"""What a checkpoint says of its network is what the recipe trained, and comes back as it was written."""

import json

import pytest

from cloudseg.config.checkpoint_header import NetworkHead, NetworkHeader, parse_metadata
from cloudseg.config.recipe import Recipe

NAMES = ("resnet34", "fpn", ["Fish", "Sugar"])


@pytest.mark.parametrize(
    ("decoder", "recipe"),
    [
        ("fpn", {}),
        ("fpn", {"channels": "gray"}),
        ("fpn", {"decoder_options": {"finest_level": False, "decoder_dropout": 0.5}}),
        ("unet", {"decoder_options": {"decoder_use_norm": {"type": "batchnorm", "momentum": 0.01}}}),
        (
            "unet",
            {"decoder_options": {"decoder_channels": [64, 32, 16, 8, 8]}, "head": {"pooling": "max", "weight": 3}},
        ),
        ("classifier", {"head": {"dropout": 0}}),
        ("classifier", {}),
    ],
)
def test_a_header_comes_back_from_a_file_as_the_recipe_gave_it(decoder, recipe):
    header = NetworkHeader.of_recipe("resnet34", decoder, ["Fish", "Sugar"], Recipe(**recipe))
    written = parse_metadata(json.dumps(header.metadata), "best")
    assert NetworkHeader.of(written, "best") == header


def test_what_is_off_is_not_written():
    header = NetworkHeader.of_recipe(*NAMES, Recipe())
    assert header.metadata == {"encoder": "resnet34", "decoder": "fpn", "classes": ["Fish", "Sugar"]}


def test_what_its_loss_weighs_is_not_the_networks():
    light, heavy = (NetworkHeader.of_recipe(*NAMES, Recipe(head={"weight": weight})) for weight in (0.1, 3))
    assert light == heavy
    assert light.metadata["head"] == {"pooling": "avg", "dropout": 0.2}


def test_networks_are_like_each_other_where_one_takes_the_weights_of_the_other():
    header = NetworkHeader.of_recipe(*NAMES, Recipe())
    assert header.is_like(NetworkHeader("resnet34", "fpn", ("a", "b")))
    for other in (
        NetworkHeader("resnet34", "fpn", ("Fish",)),
        NetworkHeader("resnet34", "fpn", ("Fish", "Sugar"), 1),
        NetworkHeader("resnet34", "fpn", ("Fish", "Sugar"), options={"decoder_dropout": 0.5}),
        NetworkHeader("resnet34", "fpn", ("Fish", "Sugar"), head=NetworkHead()),
    ):
        assert not header.is_like(other)


def test_what_a_network_gives_follows_from_its_header():
    headers = [
        NetworkHeader("resnet34", "fpn", ("Fish",)),
        NetworkHeader("resnet34", "fpn", ("Fish",), head=NetworkHead()),
        NetworkHeader("resnet34", "classifier", ("Fish",)),
    ]
    gives = [(header.has_masks, header.has_head) for header in headers]
    assert gives == [(True, False), (True, True), (False, True)]
