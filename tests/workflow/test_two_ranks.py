"""A recipe for two devices: as many processes on a machine without any, and one log for them all."""

import json

from own_data import CONFIG, settle, write_config


def test_two_processes_train_one_network(workflow, small_images):
    settle(workflow.folder, small_images)
    write_config(workflow.folder, CONFIG | {"recipes": {"tiny": CONFIG["recipes"]["tiny"] | {"gpus": 2, "ema": 0.9}}})
    run = workflow.folder / "results/tiny/runs/tu-test_resnet/fpn/64x96/tiny/fold0"
    target = run.relative_to(workflow.folder) / "last.safetensors"
    workflow.run(str(target), "--cores", "2", "--configfile", "config.yaml", "--config", "device=cpu")
    record = json.loads((run / "run.json").read_text())
    assert record["batch"] == {"images": 4, "devices": 2, "at_once": 2, "pieces": 1, "too_much": []}
    assert [device["device"] for device in record["devices"]] == ["cpu", "cpu"]
    log = (run / "train.log").read_text()
    assert log.count("epoch 4/4") == 1
    assert "peak memory of the ranks" in log
    assert "Traceback" not in log
    assert "Warning" not in log, log
