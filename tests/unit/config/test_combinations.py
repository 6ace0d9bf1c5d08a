"""What the table says of encoders and decoders is what the installed libraries do with them."""

import contextlib
import re

import pytest
import torch

from cloudseg.config import combinations
from cloudseg.config.combinations import combination_problem, examined, takes_any_size
from cloudseg.config.decoders import DECODERS
from cloudseg.config.encoders import encoders
from cloudseg.models.segmenter import build_model
from cloudseg.models.weights import initial_weights

torch.set_num_threads(1)  # for networks this small a second thread mostly waits


@pytest.mark.parametrize(
    ("encoder", "facts"),
    [
        ("resnet18", []),
        ("mit_b0", []),
        ("vgg11", ["undilated"]),
        ("tu-test_resnet", []),
        ("tu-ghostnet_050", ["undilated"]),
        ("tu-test_vit", ["patches", "resized"]),
        ("tu-test_maxvit", ["multiples of 160", "undilated"]),
        ("tu-mobilevitv2_050", ["even multiples of 64", "three stages of any size"]),
        ("tu-coatnet_pico_rw_224", ["only 224", "undilated", "three stages of any size"]),
        ("tu-inception_v4", ["uneven", "undilated"]),
        ("tu-pit_ti_224", ["nothing"]),
        ("tu-xcit_nano_12_p16_224", ["nothing"]),
        ("tu-mixer_s16_224", ["patches", "only 224"]),
        ("tu-convmixer_768_32", ["other patches"]),
    ],
)
def test_rows_of_the_table_are_what_the_libraries_do(encoder, facts):
    assert combinations._table().get(encoder, []) == examined(encoder) == facts


def test_the_table_is_of_known_encoders_and_facts():
    table = combinations._table()
    assert set(table) <= set(encoders())
    words = {fact.rstrip("0123456789").rstrip() for facts in table.values() for fact in facts}
    described = {"undilated", "uneven", "patches", "other patches", "resized", "nothing", "only", "multiples of"}
    assert words == {*described, "even multiples of", "three stages of any size"}


def sizes_taken(encoder, decoder, weights, sizes):
    """Return those of some sizes that a network sees which takes the weights that `start: none` makes."""
    taken = set()
    with contextlib.suppress(ValueError):
        model = build_model(encoder, decoder, 2, weights=weights).eval()
        for size in sizes:
            with contextlib.suppress(RuntimeError, AssertionError), torch.no_grad():
                model(torch.zeros(1, 3, *size))
                taken.add(size)
    return taken


@pytest.mark.parametrize(
    "encoder", ["mit_b0", "tu-test_vit", "tu-test_maxvit", "tu-mobilevitv2_050", "tu-vit_tiny_patch16_224"]
)
def test_a_combination_is_refused_exactly_where_it_does_not_work(tmp_path, encoder):
    weights = tmp_path / "weights.safetensors"
    initial_weights(encoder, "none", weights)
    sizes = [(160, 160), (128, 173)]
    for decoder in DECODERS:
        expected = {size for size in sizes if combination_problem(encoder, decoder, size=size) is None}
        assert sizes_taken(encoder, decoder, weights, sizes) == expected, decoder


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("resnet34", "dpt"), "dpt takes vision transformers of timm, such as tu-vit_small_patch16_224, got resnet34"),
        (("tu-resnet34.a1_in1k", "dpt"), "dpt takes vision transformers of timm"),
        (("mit_b5", "linknet"), "smp has no linknet on mit_b5"),
        (("tu-vit_huge_patch14_224", "dpt"), "dpt takes vision transformers with patches of 8, 16 or 32 pixels"),
        (("tu-inception_v4", "fpn"), "are not halves of each other, as fpn needs them; take unet or segformer"),
        (("densenet121", "deeplabv3", {"encoder_output_stride": 16}), "deeplabv3 asks for an output stride of 16"),
        (("densenet121", "pan"), "pan asks for an output stride of 16, .* or `decoder_options: {encoder_output_stri"),
        (("tu-cait_xxs24_224", "classifier"), "smp takes tu-cait_xxs24_224 with no decoder"),
        (("tu-maxvit_tiny_tf_512", "unet", None, (512, 768)), "sides are multiples of 512, got 512x768"),
    ],
)
def test_the_reason_says_what_to_take(arguments, problem):
    assert re.search(problem, combination_problem(*arguments))


def test_what_pads_or_leaves_stages_out_may_take_more_sizes():
    swin = "tu-swin_tiny_patch4_window7_224"
    assert combination_problem(swin, "fpn", size=(200, 220)) is None  # padded to 224x224
    assert combination_problem(swin, "unet", size=(200, 220)) is not None
    assert combination_problem("tu-coatnet_0_224", "pspnet", size=(320, 480)) is None
    assert combination_problem("densenet121", "pan", {"encoder_output_stride": 32}) is None


def test_a_vision_transformer_of_a_fixed_size_is_told_to_take_any():
    assert takes_any_size("tu-vit_tiny_patch16_224.augreg_in21k")
    model = build_model("tu-vit_tiny_patch16_224", "dpt", 2)
    assert model(torch.zeros(2, 3, 40, 90)).shape == (2, 2, 40, 90)
