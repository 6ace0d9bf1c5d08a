"""Options of decoders are those of the installed smp, and what is wrong with them is said while parsing."""

import json

import pytest

from cloudseg.config import decoders
from cloudseg.config.decoders import DECODERS, NOT_OPTIONS, decoder_option_problems, decoder_options, demands


def test_the_table_of_options_is_that_of_the_installed_smp():
    table = json.loads(decoders.TABLE.read_text(encoding="utf-8"))
    assert table == decoders.installed_table(), "run: python -m cloudseg.config.decoders"


def test_the_defaults_of_smp_are_no_problem():
    for decoder in DECODERS:
        defaults = {name: option["default"] for name, option in decoder_options(decoder).items()}
        assert decoder_option_problems(decoder, defaults) == []
        assert demands(decoder, defaults) == demands(decoder) == DECODERS[decoder]


def test_no_argument_of_smp_is_both_an_option_and_refused():
    for decoder in DECODERS:
        assert not set(decoder_options(decoder)) & set(NOT_OPTIONS)


@pytest.mark.parametrize(
    ("decoder", "options", "problem"),
    [
        ("unet", {"decoder_chanels": 1}, "unet has no option 'decoder_chanels' (nearest: decoder_channels"),
        ("linknet", {"finest_level": False}, "linknet has no option 'finest_level'"),
        ("classifier", {"decoder_dropout": 0}, "a classifier has no decoder, so no option 'decoder_dropout'"),
        ("fpn", {"upsampling": 8}, "upsampling: masks must come out as large as the image"),
        ("fpn", {"encoder_depth": 4}, "encoder_depth: the encoder is used in as many stages"),
        ("fpn", {"aux_params": {"classes": 4}}, "aux_params: it is `head` of the recipe"),
        ("unet", {"decoder_channels": [256, 128, 64]}, "decoder_channels: expected 5 whole numbers from 1 to 2048"),
        ("unet", {"decoder_channels": 64}, "decoder_channels: expected 5 whole numbers from 1 to 2048, got 64"),
        ("unet", {"decoder_channels": [8, 8, 8, 8, 0]}, "got [8, 8, 8, 8, 0]"),
        ("unet", {"decoder_channels": [1e3, 8, 8, 8, 8]}, "decoder_channels: expected 5 whole numbers"),
        (
            "unet",
            {"decoder_channels": [64, 32, 16, 8, 8], "decoder_attention_type": "scse"},
            "decoder_channels: expected 5 whole numbers from 16 to 2048, for the attention `scse`",
        ),
        ("unet", {"decoder_attention_type": "se"}, "decoder_attention_type: expected null or scse, got se"),
        ("manet", {"decoder_attention_type": "scse"}, "manet has no option 'decoder_attention_type'"),
        ("unet", {"decoder_use_norm": "layernorm"}, "decoder_use_norm: expected true, false, batchnorm, identity"),
        ("unet", {"decoder_use_norm": {"type": "instancenorm"}}, "or {type: instancenorm, affine: true}, got {"),
        ("upernet", {"decoder_use_norm": {"type": "instancenorm", "affine": True}}, "momentum: 0.01}, got {"),
        ("unet", {"decoder_use_norm": {"type": "batchnorm", "affine": False}}, "decoder_use_norm: expected true"),
        ("unet", {"decoder_use_norm": {"type": ["batchnorm"]}}, "decoder_use_norm: expected true"),
        ("unet", {"decoder_use_norm": {"type": "batchnorm", "momentum": 2}}, "decoder_use_norm: expected true"),
        ("fpn", {"decoder_segmentation_channels": 40}, "expected a multiple of 32 up to 2048, got 40"),
        ("fpn", {"decoder_pyramid_channels": 10**9}, "expected a whole number from 1 to 2048, got 1000000000"),
        ("fpn", {"decoder_pyramid_channels": True}, "expected a whole number from 1 to 2048, got true"),
        ("fpn", {"decoder_merge_policy": "max"}, "decoder_merge_policy: expected add or cat, got max"),
        ("fpn", {"decoder_merge_policy": ["add"]}, 'decoder_merge_policy: expected add or cat, got ["add"]'),
        ("fpn", {"decoder_dropout": 1}, "decoder_dropout: expected a number from 0 to below 1, got 1"),
        ("fpn", {"decoder_dropout": float("nan")}, "decoder_dropout: expected a number from 0 to below 1, got NaN"),
        ("fpn", {"finest_level": "no"}, "finest_level: expected true or false, got no"),
        ("deeplabv3", {"encoder_output_stride": 32}, "encoder_output_stride: expected 8 or 16, got 32"),
        ("pan", {"encoder_output_stride": 32.5}, "encoder_output_stride: expected 16 or 32, got 32.5"),
        ("deeplabv3plus", {"decoder_atrous_rates": [12, 24]}, "decoder_atrous_rates: expected 3 whole numbers"),
        ("dpt", {"decoder_readout": "concat"}, "decoder_readout: expected ignore, add or cat, got concat"),
        ("dpt", {"encoder_output_indices": [2, 5, 11, 8]}, "encoder_output_indices: expected 4 rising numbers"),
        ("dpt", {"encoder_output_indices": [0, 1, -2, -1]}, "encoder_output_indices: expected 4 rising numbers"),
    ],
)
def test_a_problem_of_an_option_is_named(decoder, options, problem):
    problems = decoder_option_problems(decoder, options)
    assert len(problems) == 1
    assert problem in problems[0]
    assert len(problems[0]) < 300


def test_a_long_value_is_not_shown_in_full():
    (problem,) = decoder_option_problems("unet", {"decoder_channels": list(range(10**4))})
    assert problem.endswith("13, 14, 15, 16, 1 ...")
