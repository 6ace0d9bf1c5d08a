"""MLflow's own client reads back what was written."""

import os

import pytest
from tracked import DICES, END, RUNS, make

pytest.importorskip("mlflow", reason="needs MLflow: pip install mlflow-skinny")

from cloudseg.trackers.export import export


def test_every_number_of_the_history_is_there(tmp_path):
    results = make(tmp_path)
    head = (results / "runs" / RUNS[0] / "history.tsv").read_text()
    (results / "runs" / RUNS[0] / "history.tsv").write_text(head.replace("dice_Fish", "dice_../Рыба <b>"))
    os.utime(results / "runs" / RUNS[0] / "history.tsv", (END, END))
    folder = results / "trackers/mlflow"
    assert export("mlflow", results, folder) == 2
    from mlflow.tracking import MlflowClient

    client = MlflowClient(folder.resolve().as_uri())
    [experiment] = client.search_experiments()
    assert experiment.name == "demo"
    assert experiment.artifact_location == (folder / "artifacts").resolve().as_uri()
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == DICES.keys()
    for name, run in runs.items():
        told = sorted((each.step, each.value) for each in client.get_metric_history(run.info.run_id, "dice/mean"))
        assert told == list(enumerate(DICES[name], start=1))
        assert (run.info.status, run.info.end_time) == ("FINISHED", 1000 * END)
        assert run.data.params["loss.dice"] == "0.5"
    [renamed] = [key for key in runs[RUNS[0]].data.metrics if key.startswith("dice/") and key != "dice/mean"]
    assert runs[RUNS[0]].data.tags[renamed] == "dice/../Рыба <b>"
    assert runs[RUNS[0]].data.metrics[renamed] == 0.6
    assert sorted(path.name for path in results.iterdir()) == ["runs", "trackers"]
