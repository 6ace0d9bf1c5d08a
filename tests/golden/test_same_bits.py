"""That `same_bits.py` finds a bit that moved, and takes no time that was measured for one."""

import json
import struct

import pytest
from same_bits import compare, main


def write(root, *, seconds=1.5, weight=1.0, learning_rate=0.001, chunk=b"abc"):
    run = root / "runs/resnet18/fold0"
    shard = root / "ensembles/all/valid.zarr/c/0"
    for folder in (run, shard.parent, root / "logs", root / "report"):
        folder.mkdir(parents=True, exist_ok=True)
    header = {"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "__metadata__": {"epoch": "1"}}
    text = json.dumps(header).encode()
    (run / "best.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + struct.pack("<f", weight))
    (run / "run.json").write_text(json.dumps({"seconds": seconds, "recipe": {"learning_rate": learning_rate}}))
    (run / "history.tsv").write_text(f"epoch\tvalid_loss\tseconds\n1\t0.5\t{seconds}\n")
    (run / "train.outputs.json").write_text(json.dumps({"best.safetensors": "0", "run.json": str(seconds)}))
    (run / "train.log").write_text(f"{seconds} s")
    (root / "report/leaderboard.md").write_text(f"| # | s/epoch |\n| - | - |\n| 1 | {seconds} |\n\nText\n")
    (root / "logs/blend.log").write_text(f"{seconds} s")
    shard.write_bytes(chunk)
    return root


def test_seconds_and_logs_may_differ(tmp_path):
    one, other = write(tmp_path / "one"), write(tmp_path / "other", seconds=9.25)
    assert compare(one, other) == (6, [])
    assert main(str(one), str(other)) == 0


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"weight": 1.0000001}, "runs/resnet18/fold0/best.safetensors: differs in weight"),
        ({"learning_rate": 0.002}, "runs/resnet18/fold0/run.json: differs in recipe.learning_rate (0.001 and 0.002)"),
        ({"chunk": b"abd"}, "ensembles/all/valid.zarr/c/0: differs from byte 2 (3 and 3 bytes)"),
    ],
)
def test_a_bit_that_moved_is_named_with_its_place(tmp_path, change, line):
    one, other = write(tmp_path / "one"), write(tmp_path / "other", **change)
    found, lines = compare(one, other)
    assert found == 6
    assert lines[0].startswith(line)
    assert len(lines) == 1
    assert main(str(one), str(other)) == 1


def test_a_file_that_is_missing_is_named(tmp_path):
    one, other = write(tmp_path / "one"), write(tmp_path / "other")
    (other / "runs/resnet18/fold0/history.tsv").unlink()
    assert compare(one, other)[1] == [f"runs/resnet18/fold0/history.tsv: only in {one}"]
