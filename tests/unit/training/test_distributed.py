"""Several processes that train one network do what one would, and none is left when another fails."""

import copy
import dataclasses
import json
import multiprocessing
import os
import signal
import threading
import time
from collections import OrderedDict

import pandas as pd
import psutil
import pytest
import torch
from network_fixtures import result, small_recipe, small_training, write_training_inputs
from torch import nn

from cloudseg.config.batching import accumulation_steps, halved
from cloudseg.errors import DeviceError, OutOfMemoryError
from cloudseg.models.segmenter import Segmenter, build_model, model_of
from cloudseg.training import oom_retry
from cloudseg.training import train as training
from cloudseg.training.data.sampler import BatchSampler
from cloudseg.training.distributed import SINGLE, ProcessGroup, run_together
from cloudseg.training.finished import STATE
from cloudseg.training.trainer import Trainer, convert_sync_batchnorm

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    return write_training_inputs(tmp_path_factory.mktemp("inputs"), train=18)


def job(inputs, out, **recipe):
    return small_training(inputs, out, job={"decoder": "unet"}, **recipe)


def without_batchnorm(header, **options):
    """Build a network in which no image has a part in another's result, and no weight a gradient near 0."""
    first, second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
    parts = {"encoder": nn.Sequential(first, nn.SiLU()), "decoder": nn.Sequential(second, nn.SiLU())}
    return Segmenter(nn.Sequential(OrderedDict(parts, head=nn.Conv2d(8, len(header.classes), 1))), stride=1)


def train_without_batchnorm(job, group=SINGLE):
    """Train, and keep the gradients of the first step: Adam makes steps of the same size of any multiple of them."""
    path = job.outputs["run"].with_name("gradients.pt")
    clip = nn.utils.clip_grad_norm_

    def keep(parameters, norm):
        parameters = list(parameters)
        if group.is_main and not path.exists():
            torch.save([parameter.grad.clone() for parameter in parameters if parameter.requires_grad], path)
        return clip(parameters, norm)

    training.model_of, nn.utils.clip_grad_norm_ = without_batchnorm, keep
    try:
        training.train(job, group)
    finally:
        training.model_of, nn.utils.clip_grad_norm_ = model_of, clip


def slow_train(job, group):
    """Train so slowly that a signal meets it in the middle."""
    real = training.Trainer.train_step

    def train_step(*arguments, **options):
        time.sleep(0.05)
        return real(*arguments, **options)

    training.Trainer.train_step = train_step
    training.train(job, group)


@pytest.mark.parametrize(
    ("batch", "micro_batch", "validates", "frozen"), [(5, None, 9, None), (8, 2, 1, None), (5, None, 9, 1)]
)
def test_two_ranks_see_what_one_process_would(inputs, tmp_path, batch, micro_batch, validates, frozen):
    recipe = {"batch": batch, "loss": {"bce": 1, "focal": 1}, "epochs": 3, "freeze_encoder": frozen}
    folds = pd.read_csv(inputs / "folds.tsv", sep="\t")
    folds["fold"] = [0] * validates + [1] * (len(folds) - validates)  # of one image, the second rank has none
    folds.to_csv(tmp_path / "folds.tsv", sep="\t", index=False)
    two = recipe | {"gpus": 2, "micro_batch": micro_batch}
    jobs = [job(inputs, tmp_path / name, **more) for name, more in (("one", recipe), ("two", two))]
    one, two = (dataclasses.replace(each, folds=tmp_path / "folds.tsv") for each in jobs)
    train_without_batchnorm(one)
    run_together(train_without_batchnorm, 2, CPU, job=two)
    gradients = (torch.load(tmp_path / name / "gradients.pt", weights_only=True) for name in ("one", "two"))
    for first, second in zip(*gradients, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-6)
    one, two = (pd.read_csv(tmp_path / name / "history.tsv", sep="\t") for name in ("one", "two"))
    for name in ("train_loss", "valid_loss"):
        assert one[name].is_monotonic_decreasing
        pd.testing.assert_series_equal(one[name], two[name], rtol=0, atol=1e-5)
    pd.testing.assert_series_equal(one["valid_dice"], two["valid_dice"], rtol=0, atol=1e-3)


def keep_what_differs(group, folder, job):
    """Train, and write down how far this rank's weights and statistics are from rank 0's."""
    seen = []
    real = training.validate

    def validate(trainer, *arguments):
        for value in [*trainer.model.state_dict().values(), *trainer.eval_model.state_dict().values()]:
            first = value.clone()
            torch.distributed.broadcast(first, 0)
            seen.append(float((first.double() - value.double()).abs().max()))
        return real(trainer, *arguments)

    training.validate = validate
    training.train(job, group)
    (folder / f"{group.rank}.json").write_text(json.dumps(seen))


def stop_in_epoch_three(job, group):
    calls = []
    real = training.validate

    def validate(*arguments):
        calls.append(0)
        if len(calls) == 3:
            raise ValueError("stopped")
        return real(*arguments)

    training.validate = validate
    training.train(job, group)


def test_ranks_do_not_drift_apart_and_go_on_where_they_stopped(inputs, tmp_path, capfd):
    """BatchNorm and Dice are each rank's own, but for what they must agree on at each epoch's end."""
    recipe = {"epochs": 4, "gpus": 2, "batch": 5, "ema": 0.9, "precision": "bf16", "freeze_encoder": 3}
    recipe["average"] = {"epochs": 2}
    run_together(keep_what_differs, 2, CPU, folder=tmp_path, job=job(inputs, tmp_path / "whole", **recipe))
    for rank in (0, 1):
        seen = json.loads((tmp_path / f"{rank}.json").read_text())
        assert len(seen) > 100
        assert set(seen) == {0.0}
    record = json.loads((tmp_path / "whole/run.json").read_text())
    assert record["batch"] == {"images": 5, "devices": 2, "at_once": 3, "pieces": 1, "too_much": []}
    assert len(record["devices"]) == 2
    assert all(0 < device["busy"] <= 1 and device["peak_memory_mib"] > 100 for device in record["devices"])

    with pytest.raises(RuntimeError, match=r"rank \d of 2 failed"):
        run_together(stop_in_epoch_three, 2, CPU, job=job(inputs, tmp_path / "cut", **recipe))
    assert "ValueError: stopped" in capfd.readouterr().err
    run_together(training.train, 2, CPU, job=job(inputs, tmp_path / "cut", **recipe))
    assert json.loads((tmp_path / "cut/run.json").read_text())["epochs"]["resumed"] == [{"after": 2, "of": 4}]
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


def learn_in_two_ways(group, path):
    """Make four steps, and two of them again from the state between, in another network."""

    def learner():
        torch.manual_seed(1)
        return Trainer(build_model("resnet18", "linknet", 2), small_recipe(gpus=3), "ab", group)

    def step(learns, seed):
        generator = torch.Generator().manual_seed(10 * seed + group.rank)
        image = torch.randint(256, (2, 32, 32, 3), dtype=torch.uint8, generator=generator)
        learns.train_step(image, image[..., :1] >> 6, learning_rate=0.01, n_images=6)

    whole, cut = learner(), learner()
    step(whole, 1)
    cut.load_state_dict(copy.deepcopy(whole.state_dict()))
    for learns in (whole, cut):
        step(learns, 2)
    same = [torch.equal(*pair) for pair in zip(whole.model.parameters(), cut.model.parameters(), strict=True)]
    path.with_name(f"{group.rank}.json").write_text(json.dumps(same))


def test_the_first_step_of_a_resumed_training_adds_up_gradients_in_the_same_order(tmp_path):
    """Of three ranks, since the sum of two is the same in any order; of gradients that fill several buckets."""
    run_together(learn_in_two_ways, 3, CPU, path=tmp_path / "same")
    for rank in range(3):
        assert all(json.loads((tmp_path / f"{rank}.json").read_text()))


@pytest.mark.parametrize("encoder", ["tu-test_efficientnet", "tu-test_resnet", "resnet18"])
def test_synchronised_norms_compute_what_the_others_do(encoder):
    """Of torch's own converter timm's norms lose their activations."""
    model = build_model(encoder, "fpn", 2).eval()
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = model(image)
        after = convert_sync_batchnorm(model)(image)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in model.modules())
    torch.testing.assert_close(before, after)


def in_a_group_of_its_own(**arguments):
    """Train with two ranks, so that all of them can be stopped at once."""
    os.setpgid(0, 0)
    run_together(**arguments)


def begin(work, inputs, out, **options):
    """Train with two ranks in a process of its own; return it and its ranks, once they are training."""
    endless = job(inputs, out, gpus=2, epochs=200, schedule="constant")
    process = multiprocessing.get_context("spawn").Process(
        target=in_a_group_of_its_own, kwargs={"work": work, "size": 2, "device": CPU, "job": endless, **options}
    )
    process.start()
    deadline = time.monotonic() + 60
    while not (out / STATE).exists():
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found = [each for each in psutil.Process(process.pid).children() if "spawn_main" in " ".join(each.cmdline())]
    assert len(found) == 2
    return process, found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_ranks_end_with_their_job(inputs, tmp_path, number):
    process, found = begin(slow_train, inputs, tmp_path / "cut")
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == (-number if number == signal.SIGKILL else 128 + number)
    _, alive = psutil.wait_procs(found, timeout=20)
    assert alive == []


def test_a_rank_that_is_killed_ends_the_job_with_its_name(inputs, tmp_path, capfd):
    process, found = begin(slow_train, inputs, tmp_path / "cut")
    found[1].kill()
    process.join(60)
    assert process.exitcode == 1
    assert "RuntimeError: rank 1 of 2 was killed by SIGKILL; the others were ended" in capfd.readouterr().err
    _, alive = psutil.wait_procs(found, timeout=20)
    assert alive == []


def test_what_was_stopped_as_a_whole_goes_on_and_a_rank_that_is_stopped_alone_is_named(inputs, tmp_path, capfd):
    process, found = begin(slow_train, inputs, tmp_path / "cut", stuck_after=2)
    history = tmp_path / "cut/history.tsv"
    os.killpg(process.pid, signal.SIGSTOP)
    time.sleep(5)
    before = history.stat().st_mtime_ns
    os.killpg(process.pid, signal.SIGCONT)
    deadline = time.monotonic() + 60
    while history.stat().st_mtime_ns == before:
        assert process.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    found[1].suspend()
    process.join(60)
    assert process.exitcode == 1
    said = capfd.readouterr().err
    assert f"no rank of 2 made a step in 2 s: rank 1 (process {found[1].pid}) is stopped, and the others wait" in said
    _, alive = psutil.wait_procs(found, timeout=20)
    assert alive == []


def compute_and_hang(group, folder, job):
    """Train; the second rank computes for long in the first epoch, and waits for what never comes in the second."""
    real, calls = training.validate, []

    def validate(*arguments):
        calls.append(0)
        ends = time.monotonic() + 3
        while len(calls) == 1 and group.rank == 1 and time.monotonic() < ends:
            pass
        if len(calls) == 2 and group.rank == 1:
            (folder / "computed").touch()
            wait_for_ever()
        return real(*arguments)

    training.validate = validate
    training.train(job, group)


def wait_for_ever():
    threading.Event().wait()


def test_a_rank_that_computes_does_not_stand_still_and_one_that_hangs_shows_its_stack(inputs, tmp_path, capfd):
    settings = job(inputs, tmp_path / "hung", gpus=2, epochs=3)
    with pytest.raises(RuntimeError, match=r"no rank of 2 made a step in \d s; the fewest are those of rank .*1"):
        run_together(compute_and_hang, 2, CPU, stuck_after=1, folder=tmp_path, job=settings)
    assert (tmp_path / "computed").exists()
    assert "in wait_for_ever" in capfd.readouterr().err


def short_of_memory(job, group, micro_batch):
    """Train where the second rank's memory is enough for two images."""
    real = training.Trainer._outputs

    def outputs(trainer, network, image):
        if group.rank == group.size - 1 and len(image) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore words")
        return real(trainer, network, image)

    training.Trainer._outputs = outputs
    try:
        training.train(job, group, micro_batch)
    finally:
        training.Trainer._outputs = real


@pytest.mark.parametrize(("gpus", "too_much"), [(1, [8, 4]), (2, [4])])
def test_out_of_memory_begins_anew_with_half_the_images_at_once(inputs, tmp_path, monkeypatch, capsys, gpus, too_much):
    monkeypatch.setattr(oom_retry, "train", short_of_memory)
    oom_retry.train_with_oom_retry(job(inputs, tmp_path / "short", batch=8, gpus=gpus), "cpu")
    record = json.loads((tmp_path / "short/run.json").read_text())
    assert record["batch"] == {
        **{"images": 8, "devices": gpus, "at_once": 2, "pieces": 4 // gpus, "too_much": too_much},
    }
    said = capsys.readouterr().out
    assert f"not enough memory for {too_much[-1]} images at once" in said
    assert "beginning anew with 2" in said


def test_what_began_anew_goes_on_so(inputs, tmp_path, monkeypatch):
    """A memory that was too small in the third epoch is not tried again after a kill."""
    recipe = {"batch": 8, "epochs": 4}
    real, calls = training.validate, []

    def validate(trainer, *arguments):
        calls.append(0)
        if len(calls) == 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if len(calls) == 5:
            raise KeyboardInterrupt
        return real(trainer, *arguments)

    monkeypatch.setattr(training, "validate", validate)
    with pytest.raises(KeyboardInterrupt):
        oom_retry.train_with_oom_retry(job(inputs, tmp_path / "cut", **recipe), "cpu")
    monkeypatch.undo()
    oom_retry.train_with_oom_retry(job(inputs, tmp_path / "cut", **recipe), "cpu")
    record = json.loads((tmp_path / "cut/run.json").read_text())
    assert record["epochs"]["resumed"] == [{"after": 2, "of": 4}]
    assert (record["batch"]["at_once"], record["batch"]["too_much"]) == (4, [8])
    oom_retry.train_with_oom_retry(job(inputs, tmp_path / "whole", **recipe, micro_batch=4), "cpu")
    assert result(tmp_path / "cut") == result(tmp_path / "whole")


def test_what_began_anew_is_the_training_of_that_many_images_at_once(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(oom_retry, "train", short_of_memory)
    oom_retry.train_with_oom_retry(job(inputs, tmp_path / "short", batch=8), "cpu")
    monkeypatch.undo()
    oom_retry.train_with_oom_retry(job(inputs, tmp_path / "enough", batch=8, micro_batch=2), "cpu")
    assert result(tmp_path / "short") == result(tmp_path / "enough")


def test_memory_for_less_than_two_images_is_an_error(inputs, tmp_path, monkeypatch):
    def never(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(oom_retry, "train", never)
    with pytest.raises(OutOfMemoryError, match=r"not enough memory for a batch of 4 on 1 device.*2 images at once"):
        oom_retry.train_with_oom_retry(job(inputs, tmp_path / "short"), "cpu")


def test_fewer_devices_than_the_recipe_asks_for_are_an_error(inputs, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match="asks for gpus: 2, and this job was granted 1"):
        oom_retry.train_with_oom_retry(job(inputs, tmp_path, gpus=2), "cuda")


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize("most", [2, 3, 4, 8])
def test_shares_and_micro_batches_are_even_and_nothing_is_seen_twice(ranks, most):
    for batch in range(2, 25):
        if not accumulation_steps(batch, ranks, most):
            with pytest.raises(ValueError, match="alone"):
                BatchSampler(50, batch, shuffle_seed=1, ranks=ranks, micro_batch_size=most)
            continue
        for count in (batch, batch + 1, 50):
            shares = [
                BatchSampler(count, batch, shuffle_seed=1, rank=rank, ranks=ranks, micro_batch_size=most)
                for rank in range(ranks)
            ]
            assert len({len(share) for share in shares}) == 1
            seen = []
            for number, parts in enumerate(zip(*shares, strict=True)):
                assert sum(map(len, parts)) == shares[0].batch_images(number)
                sizes = [
                    len(micro_batch)
                    for part in parts
                    for micro_batch in torch.arange(len(part)).tensor_split(shares[0].accumulation_steps(number))
                ]
                assert max(sizes) <= most
                assert min(sizes) >= 2
                assert max(sizes) - min(sizes) <= 1
                seen += [key for part in parts for key in part]
            assert len(set(seen)) == len(seen) > count - max(2 * ranks * most, batch)


def test_halves_end_at_two_images():
    assert [halved(16, 1, most) for most in (16, 8, 4, 2)] == [8, 4, 2, None]
    assert [halved(16, 2, most) for most in (8, 4, 2)] == [4, 2, None]


def test_alone_nothing_is_shared():
    group = ProcessGroup(0, 1, CPU)
    model = nn.Linear(2, 2)
    assert group.wrap_ddp(model, torch.zeros(2, 2)) is model
    assert SINGLE.is_main
