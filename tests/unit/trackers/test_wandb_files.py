"""The offline files of Weights & Biases, read record by record: LevelDB's log, of protocol buffers."""

import json
import struct

import pytest
from tracked import DICES, END, make

pytest.importorskip("wandb", reason="needs Weights & Biases: pip install wandb")

from cloudseg.trackers.export import export

HEAD, BLOCK, FILE_HEAD = struct.Struct("<IHB"), 32_768, 7
WHOLE, LAST = 1, 4


def records(path):
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, text = path.read_bytes(), FILE_HEAD, b""
    while position < len(data):
        if (left := BLOCK - position % BLOCK) < HEAD.size:
            position += left
            continue
        _, length, kind = HEAD.unpack_from(data, position)
        text += data[position + HEAD.size : position + HEAD.size + length]
        position += HEAD.size + length
        if kind in (WHOLE, LAST):
            yield Record.FromString(text)
            text = b""


def values(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def test_every_number_of_the_history_is_there(tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    results = make(tmp_path)
    folder = results / "trackers/wandb"
    assert export("wandb", results, folder) == 2
    assert list(home.iterdir()) == []
    assert [path.name for path in (results / "trackers").iterdir()] == ["wandb"]
    found = {}
    for path in folder.glob("offline-run-*/run-*.wandb"):
        told = list(records(path))
        [run] = [each.run for each in told if each.WhichOneof("record_type") == "run"]
        found[run.display_name] = [
            values(each.history.item) for each in told if each.WhichOneof("record_type") == "history"
        ]
        assert values(run.config.update)["loss.dice"] == 0.5
        assert told[-1].WhichOneof("record_type") == "exit"
    assert found.keys() == DICES.keys()
    for name, rows in found.items():
        assert [(row["_step"], row["dice/mean"]) for row in rows] == list(enumerate(DICES[name], start=1))
        assert [row["_timestamp"] for row in rows] == [END - 2 * left for left in range(len(rows))][::-1]
