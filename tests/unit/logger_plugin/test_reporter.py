"""What the logger makes of Snakemake's records where there is no terminal."""

import json
import logging
import subprocess
import sys
from types import SimpleNamespace

import pytest
from logger_records import Run
from snakemake.settings.enums import Quietness
from snakemake_interface_logger_plugins.common import LogEvent

from cloudseg import terminal
from cloudseg.runtime.job_progress import progress_path
from cloudseg.workflow.costs import COSTS
from snakemake_logger_plugin_cloudseg import board as boards
from snakemake_logger_plugin_cloudseg import screen
from snakemake_logger_plugin_cloudseg.names import job_name

OURS = {rule: rule for rule in COSTS}
TRAIN = {"encoder": "resnet34", "decoder": "fpn", "size": "96x144", "recipe": "quick", "fold": "0"}


@pytest.fixture(autouse=True)
def nothing_registered():
    terminal.register(lambda rule, wildcards: None, [], OURS)


@pytest.fixture
def run(monkeypatch):
    run = Run(monkeypatch, stats={"train": 2, "all": 1})
    yield run
    run.close()
    assert all(text.isprintable() for text in run.lines)


def write_progress(log, **facts):
    usual = {"log": str(log), "host": "node7", "process": 1, "begun": 5.0, "updated": 6.0, "done": 4.3, "total": 10}
    usual |= {"unit": "epochs", "seconds_left": 12.0, "facts": {"dice": 0.7123}, "error": None}
    progress_path(log).write_text(json.dumps(usual | facts))


def test_a_job_leaves_a_line_with_what_it_found(run, tmp_path):
    (tmp_path / "history.tsv").write_text("epoch\tvalid_dice\n1\t0.7\n2\t0.77234\n3\t0.75\n")
    run.start(1, "train", log=[tmp_path / "train.log"], output=[tmp_path / "history.tsv"], **TRAIN)
    run.finish(1)
    run.start(0, "all", output=[])
    run.finish(0)
    assert run.lines[-1] == "[1/3] train fpn resnet34 96x144 quick fold 0: 3 epochs, best Dice 0.7723, 0 s"
    assert not {"given", "Missing", "mem_mb"} & set(run.stream.getvalue().split())


def test_an_encoder_that_all_share_is_not_named():
    terminal.register(lambda rule, wildcards: None, ["encoder"], OURS)
    assert job_name("train", TRAIN) == "train fpn 96x144 quick fold 0"


def test_in_another_workflow_rules_are_ours_by_what_they_are_called_there(monkeypatch):
    monkeypatch.setattr(terminal, "_ours", {})
    terminal.register(lambda rule, wildcards: {"train": 60.0}[rule], ["encoder"], {"clouds_train": "train"})
    assert job_name("clouds_train", TRAIN) == "train fpn 96x144 quick fold 0"
    assert job_name("train", {"sample": "{x}"}) == "train {x}"  # that one's own
    assert terminal.expected_seconds("clouds_train", TRAIN) == 60
    assert terminal.expected_seconds("train", {"sample": "{x}"}) is None


def test_a_running_job_says_how_far_it_is(run, tmp_path, monkeypatch):
    log = tmp_path / "train.log"
    write_progress(log, process=99, done=9, facts={"dice": 0.1})  # what a killed attempt left
    run.start(1, "train", log=[log], **TRAIN)
    run.board().look()
    [job] = run.board().running()
    assert job.line() == "train fpn resnet34 96x144 quick fold 0: 0 s so far"
    write_progress(log)
    run.board().look()
    assert job.line() == "train fpn resnet34 96x144 quick fold 0: epoch 5/10, Dice 0.71, 12 s left"
    monkeypatch.setattr(screen, "SAY", 0)
    before = len(run.lines)
    lines = run.handler._reporter._screen
    lines._look()
    said = run.lines[before:]
    assert said[0].startswith("0 of 3 steps done")
    assert said[1].startswith("  train fpn resnet34 96x144 quick fold 0: epoch 5/10")
    lines._look()
    assert len(run.lines) == before + 2  # nothing has moved
    write_progress(log, done=5, seconds_left=None, unit="images", facts={"dice": None})
    lines._look()
    assert "5/10 images" in run.lines[-1]


def test_a_cluster_job_is_queued_until_its_log_is_written(run, tmp_path):
    log = tmp_path / "train.log"
    log.write_text("of the last call\n")
    run.start(1, "train", log=[log], local=False, **TRAIN)
    [job] = run.board().running()
    run.board().look()
    assert "fold 0: queued, " in job.line()
    assert job.seconds() == 0
    before = run.lines
    group = [SimpleNamespace(jobid=number, uuid=lambda number=number: f"5-{number}") for number in (1, 4)]
    run.say("Group job truth (jobs in lexicogr. order):", LogEvent.GROUP_INFO, group_id="truth", jobs=group)
    run.say("Job 1 has been submitted with SLURM jobid 77 (log: x.log).")
    assert "fold 0: queued as 77, " in job.line()
    run.say("Submitted job 1 with external jobid 'job_78.sh'.")
    assert "fold 0: queued as job_78, " in job.line()
    run.say("Submitted group job 5-4 with external jobid '79'.")
    assert "fold 0: queued as 79, " in job.line()
    assert run.lines == before
    log.write_text("begun anew\n")
    run.board().look()
    assert "queued" not in job.line()


def test_an_error_names_the_rule_and_shows_the_end_of_the_log(run, tmp_path):
    log = tmp_path / "train.log"
    log.write_text("".join(f"line {number}\n" for number in range(200)) + "\x1b[2Jlast\x9b2J\n")
    run.start(1, "train", log=[log], **TRAIN)
    run.error(1, "train", log=[log], message="cancelled", external_jobid="77")
    run.say("Trying to restart job 1.")
    text = run.stream.getvalue()
    for words in ("Error in rule train: train fpn resnet34", f"log: {log}", "message: cancelled", "external_jobid: 77"):
        assert words in text
    assert "line 141\n" in text
    assert "line 140\n" not in text
    assert "these 60 lines; the rest is in the file" in text
    assert run.lines[-1] == "train fpn resnet34 96x144 quick fold 0: failed, and is tried again"


def test_of_a_group_those_jobs_are_shown_that_are_to_blame(run, tmp_path):
    logs = [tmp_path / f"{name}.log" for name in ("well", "failed", "waiting")]
    for number, log in enumerate(logs):
        run.start(number, "blend", log=[log], local=False, ensemble=log.stem, split="valid")
    logs[0].write_text("well\n")
    write_progress(logs[0])
    logs[1].write_text("no number\n")
    write_progress(logs[1], error="no number")
    run.board().look()
    progress_path(logs[0]).unlink()  # it has ended well
    slurm = tmp_path / "slurm.log"
    slurm.write_text("what the cluster says\n")
    jobs = [{"jobid": number, "rule_name": "blend", "output": [], "log": []} for number in range(3)]
    facts = {"groupid": "ensemble", "aux_logs": [str(slurm)], "job_error_info": jobs}
    run.say("Error", LogEvent.GROUP_ERROR, level=logging.ERROR, **facts)
    for number, log in enumerate(logs):
        run.error(number, "blend", log=[log], indent=True)
    text = run.stream.getvalue()
    assert "Error in group ensemble: blend well valid, blend failed valid, blend waiting valid" in text
    assert "what the cluster says" in text
    assert text.count("Error in rule") == 1
    assert "Error in rule blend: blend failed valid" in text


def test_messages_pass_and_chatter_does_not(run):
    run.say("Select jobs to execute...")
    run.say("RuleException:\nCalledProcessError in file x:\nCommand 'y' returned non-zero exit status 1.")
    run.say("RuleException:\nCalledProcessError in file x:\nCommand 'y' died with <Signals.SIGKILL: 9>.")
    run.say("a warning", level=logging.WARNING)
    run.say(None)
    for _ in range(3):  # jobs that end
        run.say("Will exit after finishing currently running jobs (scheduler).")
    assert run.lines[2:] == [
        *("RuleException:", "CalledProcessError in file x:", "Command 'y' died with <Signals.SIGKILL: 9>."),
        "a warning",
        "Will exit after finishing currently running jobs (scheduler).",
    ]


@pytest.mark.parametrize(
    ("quiet", "said"),
    [
        ({Quietness.RULES, Quietness.PROGRESS}, []),
        ({Quietness.ALL}, []),
        ({Quietness.PROGRESS}, ["train fpn resnet34 96x144 quick fold 0", "Error in rule train"]),
        ({Quietness.RULES}, ["Job stats:", "", "1 of 2 steps (50%) done"]),
    ],
)
def test_quiet_is_honoured(monkeypatch, quiet, said):
    run = Run(monkeypatch, stats={"train": 2}, quiet=quiet)
    run.start(1, "train", **TRAIN)
    run.finish(1)
    run.say(None, LogEvent.PROGRESS, done=1, total=2)
    run.error(1, "train")
    run.close()
    assert run.lines == said


def test_a_dry_run_says_one_line_per_rule(monkeypatch):
    run = Run(monkeypatch, stats={"train": 2, "pixels": 1}, dryrun=True)
    run.start(3, "pixels", message="pixels: about 7 MB on disk", split="test", size="96x144")
    for fold in ("1", "0"):
        run.start(1, "train", **TRAIN | {"fold": fold})
    run.say("Job stats:\n", LogEvent.RUN_INFO, stats={"train": 2, "pixels": 1, "total": 3})
    assert run.lines[-2:] == [
        "  pixels: about 7 MB on disk",
        "  train fpn resnet34 96x144 quick fold 0 (and 1 more)",
    ]


def test_all_of_it_stands_there_when_asked_for(monkeypatch):
    run = Run(monkeypatch, stats={"train": 1}, printshellcmds=True)
    run.start(1, "train", **TRAIN)
    run.close()
    for words in ("rule train:", "input: given", "reason: Missing output files", "mem_mb=7"):
        assert words in run.stream.getvalue()


def test_the_time_left_of_a_run_comes_from_what_has_ended_or_is_expected(monkeypatch, tmp_path):
    now = [100.0]
    monkeypatch.setattr(boards.time, "monotonic", lambda: now[0])
    board = boards.Board({"train": 4, "predict": 1})
    assert board.summary() == "0 of 5 steps done"

    def job(number, rule="train"):
        return boards.Job(number, rule, TRAIN, ["made"], rule, None, None, False, 2, now[0], begun=now[0])

    board.add(job(1))
    board.add(job(2))
    now[0] += 60
    assert board.summary() == "0 of 5 steps done"  # who knows
    terminal.register(lambda rule, wildcards: {"train": 240.0, "predict": 60.0}.get(rule), [], OURS)
    # 120 s a training on two threads: 60 of each are left, two to come, and a prediction of one core; two at once
    assert board.seconds_left() == pytest.approx((60 + 60 + 2 * 120 + 60) / 2)
    board.finish(1)
    # 60 s each now: the other one should be over
    assert board.seconds_left() == pytest.approx((0 + 2 * 60 + 60) / 2)
    assert board.summary() == "1 of 5 steps done, about 2 min left"
    board.count(5, 5)
    assert board.summary() == "5 of 5 steps done"


def test_nothing_of_cloudseg_is_imported_before_the_first_job():
    """The Snakefile decides which copy of it is used."""
    script = "import sys, snakemake_logger_plugin_cloudseg\nprint({'cloudseg', 'rich', 'torch'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_no_text_gives_the_terminal_orders_before_the_first_job_is_known(monkeypatch):
    run = Run(monkeypatch)
    run.say("a.csv: no class \x1b]0;title\x07 \x1b[2J \x9b2J", level=logging.ERROR)
    assert run.lines == ["a.csv: no class 0;title  "]


def test_a_training_without_validation_leaves_its_epochs(run, tmp_path):
    (tmp_path / "history.tsv").write_text("epoch\tvalid_dice\tseconds\n1\t\t2\n2\t\t2\n")
    run.start(1, "train", log=[tmp_path / "train.log"], output=[tmp_path / "history.tsv"], **(TRAIN | {"fold": "all"}))
    run.finish(1)
    assert run.lines[-1] == "[1/3] train fpn resnet34 96x144 quick fold all: 2 epochs, 0 s"


def test_a_history_that_no_training_wrote_leaves_the_line_of_its_job(run, tmp_path):
    (tmp_path / "history.tsv").write_text(f"epoch\tvalid_dice\n{'9' * 200_000}\t0.7\n2\n")
    run.start(1, "train", log=[tmp_path / "train.log"], output=[tmp_path / "history.tsv"], **TRAIN)
    run.finish(1)
    assert run.lines[-1] == "[1/3] train fpn resnet34 96x144 quick fold 0: 0 s"
