"""How long jobs will take: the best source counts, and each is held against figures made by hand."""

import pytest
from demo_plan import plan
from run_records import write_history

from cloudseg.workflow.durations import DECODER_WORK, EPOCHS, PREDICTIONS, PROBE, SIZE, Durations, hours

ENCODER, EXPERIMENT = "tu-tf_efficientnet_lite0", "tu-tf_efficientnet_lite0/fpn/96x144/quick"
PROBED = "what\timages\tseconds_per_step\trecipe_seconds_per_step\ntried\t2\t0.1\t\nsummary\t4\t0.2\t0.4\n"


def run_of(plan, fold=0, decoder="fpn"):
    return plan.run(ENCODER, decoder, "96x144", "quick", fold)


def folder(tmp_path, fold):
    return tmp_path / "runs" / EXPERIMENT / f"fold{fold}"


def benchmark(path, seconds):
    path.write_text(f"s\th:m:s\n{seconds}\t0:00:01\n")


def test_epochs_of_any_fold_count_before_all_else(tmp_path):
    write_history(folder(tmp_path, 1), [0.5, 0.6, 0.7], seconds=3.0)
    (tmp_path / "probe" / EXPERIMENT).parent.mkdir(parents=True)
    (tmp_path / "probe" / f"{EXPERIMENT}.tsv").write_text(PROBED)
    durations = Durations(plan(), tmp_path, on_cpu=True)
    expected = durations.training(run_of(plan()))
    assert expected == (6 + 16 * 3.0, EPOCHS)


def test_a_training_that_was_stopped_goes_on(tmp_path):
    write_history(folder(tmp_path, 0), [0.5, 0.6, 0.7], seconds=3.0)
    durations = Durations(plan(), tmp_path, on_cpu=True)
    assert durations.training(run_of(plan())).seconds == 6 + 16 * 3.0  # without a state it begins anew
    (folder(tmp_path, 0) / "training.state").touch()
    assert durations.training(run_of(plan())).seconds == 6 + 13 * 3.0


def test_what_a_training_took_beside_its_epochs_is_measured(tmp_path):
    write_history(folder(tmp_path, 1), [0.5, 0.6], seconds=3.0)
    (folder(tmp_path, 1) / "run.json").touch()
    benchmark(folder(tmp_path, 1) / "train.benchmark.tsv", 26.0)
    assert Durations(plan(), tmp_path, on_cpu=True).training(run_of(plan())).seconds == 20 + 16 * 3.0


def test_folds_that_stopped_early_say_after_how_many_epochs(tmp_path):
    def patient(config):
        config["recipes"]["quick"] |= {"patience": 2, "schedule": "constant"}

    write_history(folder(tmp_path, 1), [0.5, 0.7, 0.6, 0.6])
    write_history(folder(tmp_path, 2), [0.5, 0.6, 0.7])  # it still gets better
    expected = Durations(plan(patient), tmp_path, on_cpu=True).training(run_of(plan(patient)))
    assert expected.seconds == 6 + 4 * 2.0


def test_the_probe_counts_where_no_epoch_was_trained(tmp_path):
    (tmp_path / "probe" / EXPERIMENT).parent.mkdir(parents=True)
    (tmp_path / "probe" / f"{EXPERIMENT}.tsv").write_text(PROBED)
    seconds, source = Durations(plan(), tmp_path, on_cpu=True).training(run_of(plan()))
    # 0.4 s for a batch of 4; 75 images are trained on, 25 validate at a third; 3 ms to read one
    epoch = 0.1 * (75 + 25 / 3) + 0.003 * 75
    assert (seconds, source) == (pytest.approx(6 + 16 * epoch), PROBE)


def test_larger_networks_and_images_are_guessed_to_take_longer(tmp_path):
    sheet = "encoder\tdecoder\tsize\trecipe\tfolds\tnote\n"
    rows = [
        ("mobilenet_v2", "fpn", "96x144"),
        ("resnet34", "unet", "96x144"),
        ("resnet34", "unet", "192x288"),
        ("resnet101", "unet", "192x288"),
    ]
    sheet += "".join(f"{encoder}\t{decoder}\t{size}\tquick\t1\t\n" for encoder, decoder, size in rows)
    small = plan(sheet=sheet, folder=tmp_path)
    durations = Durations(small, tmp_path, on_cpu=True)
    expected = [durations.training(small.run(*row, "quick", 0)) for row in rows]
    assert [each.seconds for each in expected] == sorted({each.seconds for each in expected})
    assert {each.source for each in expected} == {SIZE}
    on_gpu = Durations(small, tmp_path, on_cpu=False)
    assert on_gpu.training(small.run(*rows[-1], "quick", 0)).seconds < expected[-1].seconds


def test_predictions_take_what_those_of_other_folds_took(tmp_path):
    demo = plan()
    write_history(folder(tmp_path, 1), [0.5, 0.6, 0.7])
    prediction = demo.prediction(split="test", **run_of(demo).key.wildcards)
    durations = Durations(demo, tmp_path, on_cpu=True)
    assert durations.prediction(prediction).source == EPOCHS
    benchmark(folder(tmp_path, 1) / "predict-valid.benchmark.tsv", 14.0)
    # 25 images in 10 s, and 30 of the test
    assert durations.prediction(prediction) == (pytest.approx(4 + 10 * 30 / 25), PREDICTIONS)


def test_a_damaged_table_is_as_good_as_none(tmp_path):
    folder(tmp_path, 0).mkdir(parents=True)
    (folder(tmp_path, 0) / "history.tsv").write_text("epoch\tvalid")
    (folder(tmp_path, 0) / "predict-test.benchmark.tsv").write_text("s\n-\n")
    durations = Durations(plan(), tmp_path, on_cpu=True)
    assert durations.expected("predict", run_of(plan()).key.wildcards | {"split": "test"}).source == SIZE


def test_other_rules_have_no_duration(tmp_path):
    assert Durations(plan(), tmp_path, on_cpu=True).expected_seconds("blend", {"ensemble": "all"}) is None


def test_hours_say_their_sources_and_what_more_devices_do(tmp_path):
    write_history(folder(tmp_path, 1), [0.5], seconds=600.0)
    demo = plan(lambda config: config.update(device="cuda"))
    jobs = [("train", key.wildcards) for key in demo.sheet.keys] + [("blend", {})]
    jobs += [("predict", demo.sheet.keys[0].wildcards | {"split": "test"})]
    trainings, predictions = hours(Durations(demo, tmp_path, on_cpu=False), jobs, ("gpu", 4)).splitlines()
    assert trainings.startswith("trainings: about 5.")
    assert trainings.endswith("(2 by finished epochs, 2 by network size: a guess); with gpu=4 about 2.7 h")
    assert predictions.endswith("one after another (1 by finished epochs)")
    assert hours(Durations(demo, tmp_path, on_cpu=False), [("blend", {})]) == ""


def test_every_decoder_has_its_work():
    from cloudseg.config.decoders import DECODERS

    assert DECODER_WORK.keys() == DECODERS.keys()


def test_cores_that_no_training_uses_are_told(tmp_path):
    demo = plan(lambda config: config.update(device="cpu"))
    jobs = [("train", key.wildcards) for key in demo.sheet.keys]
    durations = Durations(demo, tmp_path, on_cpu=True)
    assert hours(durations, jobs, ("cores", 8)).endswith(
        "; 4 cores would stay idle, and `threads: 2` would train with them"
    )
    assert "idle" not in hours(durations, jobs, ("cores", 7))
    assert "idle" not in hours(durations, [("predict", jobs[0][1] | {"split": "test"})], ("cores", 8))
