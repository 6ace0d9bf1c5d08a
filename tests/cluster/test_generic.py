"""profiles/generic: the cluster-generic executor, on the same Slurm."""

import importlib.util

import pytest
from own_data import contents, settle
from slurm_here import Slurm, why_not
from small_run import SmallRun
from test_slurm import call_off

PLUGIN = "snakemake_executor_plugin_cluster_generic"
WHY_NOT = why_not() or ("" if importlib.util.find_spec(PLUGIN) else f"no {PLUGIN}: pip install {PLUGIN}")
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT)


def test_a_run_with_a_cancelled_training_makes_the_local_submission(tmp_path_factory, small_images, finished_run):
    run = SmallRun(tmp_path_factory.mktemp("cluster"))
    settle(run.folder, small_images)
    words = ["--set-resources", "train:gpu=1", "predict:gpu=1", "--seconds-between-status-checks", "1"]
    with Slurm(tmp_path_factory.mktemp("slurm")) as slurm:
        with run.started("generic", *words, environment=slurm.environment) as snakemake:
            cancelled = call_off(slurm, snakemake, set())
        states = [job.state for job in slurm.jobs()]
        gpus = [event.gpus for event in slurm.events() if event.what == "start"]
    assert snakemake.returncode == 0, run.printed.read_text()
    made, local = contents(run.folder), contents(finished_run.folder)
    assert {"submission.csv", *(name for name in local if name.endswith("last.safetensors"))} <= made.keys()
    assert [name for name in made if made[name] != local[name]] == []
    # two checks; folds, truth and pixels of train and test; three trainings, each with the prediction of its fold, two
    # predictions of test images, one ensemble
    assert sorted(states) == ["CANCELLED"] + 11 * ["COMPLETED"]
    assert states[int(cancelled) - 1] == "CANCELLED"
    assert sum(one != "-" for one in gpus) == 5
