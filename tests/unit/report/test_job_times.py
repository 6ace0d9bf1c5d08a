"""Times and memory of jobs, as the benchmark files have them."""

import json

import pandas as pd
import pytest

from cloudseg.report.job_times import by_rule, read_benchmarks, write_times
from cloudseg.storage import records
from cloudseg.storage.files import write_text

HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def write(path, seconds, peak="100.5", cpu="2.5"):
    write_text(path, f"{HEAD}{seconds}\t0:00:01\t{peak}\t1\t1\t1\t0\t0\t50\t{cpu}\n")


@pytest.fixture
def folders(tmp_path):
    logs, run = tmp_path / "logs", tmp_path / "runs/e/fpn/x4/quick/fold0"
    write(logs / "demo.benchmark.tsv", "7.5")
    write(logs / "blend/all-valid.benchmark.tsv", "0.1", peak="-", cpu="NA")  # too short to be looked at
    write(logs / "weights/tu-x/imagenet.benchmark.tsv", "3e0")
    write(run / "train.benchmark.tsv", "70.0", peak="900")
    write(run / "predict-valid.benchmark.tsv", "5.0")
    records.write_asked(run / "train.log", mem_mb=1500, threads=2)
    return logs, tmp_path / "runs"


def test_rules_and_jobs_are_read_from_the_names_of_the_files(folders):
    jobs = read_benchmarks(*folders)
    assert jobs[["rule", "job", "seconds"]].to_numpy().tolist() == [
        ["train", "e/fpn/x4/quick/fold0", 70.0],
        ["demo", "", 7.5],
        ["predict", "e/fpn/x4/quick/fold0 valid", 5.0],
        ["weights", "tu-x/imagenet", 3.0],
        ["blend", "all-valid", 0.1],
    ]
    assert jobs.loc[0, ["peak_mb", "asked_mb", "threads"]].tolist() == [900, 1500, 2]
    assert jobs.loc[4, ["cpu_seconds", "peak_mb", "asked_mb"]].isna().all()


def test_shares_add_up_and_memory_is_set_against_what_was_asked(folders):
    rules = by_rule(read_benchmarks(*folders)).set_index("rule")
    assert rules["share"].sum() == pytest.approx(100)
    assert rules.loc["train", "share"] == pytest.approx(100 * 70 / 85.6)
    assert rules.loc["train", "memory_share"] == pytest.approx(60)


def test_a_page_a_table_and_a_chart_are_written(folders, tmp_path):
    out = {"table": tmp_path / "time.tsv", "page": tmp_path / "time.html", "chart": tmp_path / "time.svg"}
    write_times(*folders, **out)
    assert len(pd.read_csv(out["table"], sep="\t")) == 5
    assert "its last process alone" in out["page"].read_text()
    assert "predict" in out["chart"].read_text()


def test_no_benchmark_file_at_all_is_no_error(tmp_path):
    out = {"table": tmp_path / "time.tsv", "page": tmp_path / "time.html", "chart": tmp_path / "time.svg"}
    write_times(tmp_path / "none", tmp_path / "none", **out)
    assert "0 jobs" in out["page"].read_text()


def test_what_a_job_asked_for_lies_beside_its_log(tmp_path):
    records.write_asked(tmp_path / "train.log", mem_mb=7, threads=3)
    assert json.loads((tmp_path / "train.asked.json").read_text()) == {"mem_mb": 7, "threads": 3}
