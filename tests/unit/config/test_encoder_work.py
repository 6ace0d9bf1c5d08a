"""The table of the encoders' work against the installed libraries."""

import pytest

from cloudseg.config.encoder_work import counted, encoder_work


@pytest.mark.parametrize("encoder", ["resnet18", "efficientnet-b0", "tu-tf_efficientnet_lite0"])
def test_the_table_is_what_the_libraries_do(encoder):
    assert encoder_work(encoder) == counted(encoder)


def test_an_unknown_encoder_is_of_medium_size():
    assert encoder_work("mobilenet_v2") < encoder_work("new-encoder") < encoder_work("efficientnet-b7")
