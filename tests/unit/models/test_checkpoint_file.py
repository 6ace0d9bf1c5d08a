import json

import pytest
import torch
from safetensors.torch import save_file

from cloudseg.models.checkpoint_file import read_state, write_state


def test_states_have_the_same_bytes_and_say_when_they_are_cut(tmp_path):
    state = {"b": torch.arange(3.0), "a": torch.ones(2, 2).t()}
    about = {"encoder": "resnet18", "decoder": "fpn", "classes": ["b", "a"], "epoch": 3}
    for name in ("one", "two"):
        write_state(state, tmp_path / name, about)
    whole = (tmp_path / "one").read_bytes()
    assert whole == (tmp_path / "two").read_bytes()
    read, told = read_state(tmp_path / "one")
    assert told == about
    assert all(torch.equal(read[key], state[key]) for key in state)
    (tmp_path / "cut").write_bytes(whole[:-5])
    with pytest.raises(ValueError, match="cut: not a whole safetensors file"):
        read_state(tmp_path / "cut")


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
        ({"averaged": 3}, "averaged: expected the numbers of epochs, got 3"),
        ({"averaged": [[3]]}, "averaged: expected the numbers of epochs, got [[3]]"),
        ({"options": {"finest_level": False}}, "options: expected some options of a decoder"),
        ({"decoder": "fpn", "options": {}}, "options: expected some options of a decoder, got {}"),
        ({"decoder": "fpn", "options": [["finest_level", False]]}, "options: expected some options of a decoder"),
        ({"decoder": "fpn", "options": {str(n): n for n in range(10**5)}}, "options: expected some options"),
        ({"decoder": "fpn", "options": {"x" * 10**6: 1}}, "options: expected some options of a decoder"),
        ({"decoder": "fpn", "options": {"upsampling": 4}}, "options: upsampling: masks must come out as large as"),
        ({"decoder": "fpn", "options": {"decoder_dropout": 1e999}}, "decoder_dropout: expected a number from 0 to"),
        ({"decoder": "unet", "options": {"decoder_channels": [10**9] * 5}}, "whole numbers from 1 to 2048"),
        ({"decoder": "unet", "options": {"decoder_channels": [1] * 10**6}}, "decoder_channels: expected 5 whole"),
        ({"head": None}, "head: expected a pooling, avg or max, and a dropout below 1, got None"),
        ({"head": {"pooling": "avg"}}, "head: expected a pooling"),
        ({"head": {"pooling": "sum", "dropout": 0}}, "head: expected a pooling"),
        ({"head": {"pooling": ["avg"], "dropout": 0}}, "head: expected a pooling"),
        ({"head": {"pooling": "avg", "dropout": 1}}, "head: expected a pooling"),
        ({"head": {"pooling": "avg", "dropout": 0.2, "classes": 10**9}}, "head: expected a pooling"),
        ([1, 2], "expected a mapping, got [1, 2]"),
        (3, "expected a mapping, got 3"),
        (None, "expected a mapping, got None"),
    ],
)
def test_what_a_foreign_checkpoint_says_of_itself_is_checked(about, complaint, tmp_path):
    path = tmp_path / "given.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata={"cloudseg": json.dumps(about)})
    with pytest.raises(ValueError, match=r"given\.safetensors: its metadata are no checkpoint's: ") as error:
        read_state(path)
    assert complaint in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.parametrize("text", ["[" * 10**5, "{", "", '{"epoch": ' + "9" * 5000 + "}"])
def test_metadata_that_are_no_json_are_named(text, tmp_path):
    save_file({"a": torch.ones(1)}, tmp_path / "given.safetensors", metadata={"cloudseg": text})
    with pytest.raises(ValueError, match=r"given\.safetensors: its metadata"):
        read_state(tmp_path / "given.safetensors")


@pytest.mark.parametrize("metadata", [3, [], {"cloudseg": 3}, {"cloudseg": ["x"]}, {"cloudseg": {}}, None])
def test_metadata_of_odd_types_are_named(metadata, tmp_path):
    header = {"__metadata__": metadata, "a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    (tmp_path / "given.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    try:
        state, about = read_state(tmp_path / "given.safetensors")
    except ValueError as error:
        assert "given.safetensors: not a whole safetensors file" in str(error)
    else:  # null is no metadata
        assert metadata is None
        assert (about, state["a"].tolist()) == ({}, [0])
