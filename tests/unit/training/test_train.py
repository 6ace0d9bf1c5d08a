import json
import math

import numpy as np
import pandas as pd
import pytest
import segmentation_models_pytorch as smp
import torch
from network_fixtures import (
    TRAINED,
    small_recipe,
    small_training,
    write_folds,
    write_pixels,
    write_training_inputs,
)

from cloudseg.models.checkpoint_file import load_strictly, read_state
from cloudseg.models.segmenter import Segmenter, build_model
from cloudseg.runtime import devices, job_progress
from cloudseg.storage import files
from cloudseg.training import losses, trainer
from cloudseg.training.train import train


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = write_training_inputs(tmp_path_factory.mktemp("inputs"), train=18)
    write_pixels(folder / "canvas.zarr", train=18, enlarged=2)
    return folder


def run(inputs, folder, *, encoder="tu-test_resnet", decoder="linknet", fold=0, seed=3, workers=0, **keys):
    """Train, and return the outputs; what is no key of a recipe is an argument of the job."""
    given = {name: keys.pop(name) for name in ("canvas_pixels", "submission_size") if name in keys}
    given |= {"encoder": encoder, "decoder": decoder, "fold": fold, "seed": seed, "workers": workers}
    job = small_training(inputs, folder, job=given, **keys)
    train(job)
    return job.outputs


def without_seconds(path):
    return pd.read_csv(path, sep="\t").drop(columns="seconds")


def test_the_same_run_has_the_same_bytes_with_any_workers(inputs, tmp_path):
    first = run(inputs, tmp_path / "first", decoder="fpn")  # fpn has dropout
    second = run(inputs, tmp_path / "second", decoder="fpn", workers=2)
    other = run(inputs, tmp_path / "other", decoder="fpn", seed=4)
    for name in ("best", "last"):
        assert first[name].read_bytes() == second[name].read_bytes()
        assert first[name].read_bytes() != other[name].read_bytes()
    assert without_seconds(first["history"]).equals(without_seconds(second["history"]))


def test_it_learns_what_is_there_to_learn(inputs, tmp_path):
    outputs = run(inputs, tmp_path, epochs=14, learning_rate=1e-2)
    history = pd.read_csv(outputs["history"], sep="\t")
    assert list(history["epoch"]) == list(range(1, 15))
    assert history["train_loss"].iloc[-1] < 0.6 * history["train_loss"].iloc[0]
    assert history["valid_dice"].max() > 0.8
    assert np.allclose(history["valid_dice"], history[["dice_a", "dice_b"]].mean(axis=1), atol=2e-6)


def test_what_a_run_leaves(inputs, tmp_path):
    outputs = run(inputs, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*TRAINED.values(), "training.state"])
    history = pd.read_csv(outputs["history"], sep="\t")
    record = json.loads(outputs["run"].read_text())
    assert record["epochs"] == {"run": 3, "best": int(history["valid_dice"].idxmax()) + 1, "resumed": []}
    assert record["images"] == {"train": 9, "valid": 9}
    assert record["sha256"]["best"] == files.sha256(outputs["best"])
    assert record["weights"]["sha256"] == files.sha256(inputs / "weights.safetensors")
    assert record["recipe"] == small_recipe().model_dump(mode="json", exclude={"start", "tta"})
    state, about = read_state(outputs["last"])
    assert about == {"encoder": "tu-test_resnet", "decoder": "linknet", "classes": ["a", "b"], "epoch": 3}
    plain = smp.create_model("linknet", "tu-test_resnet", encoder_weights=None, classes=2)
    plain.load_state_dict(state, strict=True)  # without any of our code
    assert record["parameters"] == sum(each.numel() for each in plain.parameters())


def test_every_fold_starts_from_the_same_network(inputs, tmp_path):
    # a rate of almost nothing leaves the parameters where they began
    still = {"epochs": 1, "learning_rate": 1e-30, "weight_decay": 0}
    folds = [read_state(run(inputs, tmp_path / str(k), fold=k, **still)["last"])[0] for k in (0, 1)]
    start = read_state(inputs / "weights.safetensors")[0]
    for key, value in folds[0].items():
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(value, folds[1][key], rtol=0, atol=1e-20)
            if key.startswith("encoder."):
                torch.testing.assert_close(value, start[key.removeprefix("encoder.")], rtol=0, atol=1e-20)


@pytest.mark.parametrize(("best_by", "column", "sign"), [("dice", "valid_dice", 1), ("loss", "valid_loss", -1)])
def test_best_is_the_best_epoch(inputs, tmp_path, best_by, column, sign):
    outputs = run(inputs, tmp_path, epochs=5, learning_rate=3e-3, best_by=best_by)
    history = pd.read_csv(outputs["history"], sep="\t")
    assert read_state(outputs["best"])[1]["epoch"] == (sign * history[column]).idxmax() + 1


def test_early_stopping_waits_for_its_patience(inputs, tmp_path, capsys):
    # nothing moves, so no epoch is better than the first
    outputs = run(inputs, tmp_path, epochs=9, learning_rate=1e-30, patience=2, best_by="dice", schedule="constant")
    history = pd.read_csv(outputs["history"], sep="\t")
    best = json.loads(outputs["run"].read_text())["epochs"]["best"]
    assert len(history) == best + 2 < 9
    assert "stopped: no better epoch in 2" in capsys.readouterr().out


def test_a_loss_that_is_not_a_number_ends_the_run(inputs, tmp_path):
    with pytest.raises(ValueError, match=r"loss became (nan|inf) in epoch \d; lower `learning_rate` \(now 1e\+30\)"):
        run(inputs, tmp_path, learning_rate=1e30, warmup=0, epochs=4)
    assert not (tmp_path / "last.safetensors").exists()


def test_precisions(inputs, tmp_path):
    for precision in ("bf16", "fp16"):
        outputs = run(inputs, tmp_path / precision, epochs=1, precision=precision)
        assert math.isfinite(pd.read_csv(outputs["history"], sep="\t")["train_loss"][0])
        assert all(value.dtype != torch.float16 for value in read_state(outputs["last"])[0].values())


def test_auto_is_what_the_processor_computes_in_and_a_state_knows(inputs, tmp_path, monkeypatch):
    digests, precisions = [], []
    for has in (True, False):
        monkeypatch.setattr(devices, "cpu_computes_bf16", lambda has=has: has)
        outputs = run(inputs, tmp_path / str(has), epochs=1, precision="auto")
        precisions.append(json.loads(outputs["run"].read_text())["precision"])
        digests.append(torch.load(tmp_path / str(has) / "training.state", weights_only=True)["digest"])
    assert precisions == ["bfloat16", "float32"]
    assert digests[0] != digests[1]


def test_fewer_epochs_than_were_trained_begin_anew_and_say_so(inputs, tmp_path, capsys):
    run(inputs, tmp_path, epochs=3, schedule="constant")
    outputs = run(inputs, tmp_path, epochs=2, schedule="constant")
    assert len(pd.read_csv(outputs["history"], sep="\t")) == 2
    assert "of 3 epochs already; training from the beginning" in capsys.readouterr().out


def test_progress_is_quiet_outside_a_terminal(inputs, tmp_path, capsys):
    run(inputs, tmp_path, epochs=2)
    said = capsys.readouterr()
    assert said.err == ""
    assert [line.split(":")[0] for line in said.out.splitlines()] == ["epoch 1/2", "epoch 2/2"]


def test_whoever_watches_is_told_how_far_it_is_in_parts_of_epochs(inputs, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(job_progress, "report", lambda done, total, unit, **facts: told.append((done, total, facts)))
    first = run(inputs, tmp_path, epochs=2, schedule="constant")
    assert {total for _, total, _ in told} == {2}
    done = [each for each, _, _ in told]
    assert done == sorted(done)
    assert (done[0], done[-1]) == (0, 2)
    assert sum(0 < each < 1 for each in done) == sum(1 < each < 2 for each in done) > 1
    dice = pd.read_csv(first["history"], sep="\t")["valid_dice"]
    assert (told[-1][2]["dice"], told[-1][2]["best_dice"]) == (dice.iloc[-1], dice.max())
    assert told[-1][2]["images_per_second"] > 0
    told.clear()
    run(inputs, tmp_path, epochs=3, schedule="constant")
    assert told[0][:2] == (2, 3)  # what the first process trained
    assert told[0][2]["dice"] == dice.iloc[-1]


def test_images_smaller_than_the_decoder_takes_are_refused_before_training(inputs, tmp_path):
    with pytest.raises(ValueError, match="images of 32x48; pan takes at least 113x113"):
        run(inputs, tmp_path, decoder="pan")


def test_an_augmentation_that_fails_is_named(inputs, tmp_path):
    steps = [{"name": "RandomCrop", "height": 320, "width": 320}]
    with pytest.raises(ValueError, match=r"augmentation \(RandomCrop\) fails on \(32, 48\) pixels"):
        run(inputs, tmp_path, augmentation=steps)


def test_one_training_image_is_too_few(inputs, tmp_path):
    write_pixels(tmp_path / "pixels.zarr", train=2)
    write_folds(tmp_path / "folds.tsv", count=2)
    (tmp_path / "weights.safetensors").symlink_to(inputs / "weights.safetensors")
    with pytest.raises(ValueError, match="leaves 1 image to train on; two are needed"):
        run(tmp_path, tmp_path / "out")


def test_training_from_a_canvas_is_training_from_what_it_shrinks_to(inputs, tmp_path):
    plain = run(inputs, tmp_path / "plain")
    canvas = {"canvas": "64x96", "canvas_pixels": inputs / "canvas.zarr"}
    large = run(inputs, tmp_path / "large", **canvas)
    workers = run(inputs, tmp_path / "workers", workers=2, **canvas)
    # Each pixel of the canvas store is there four times, so flips and brightness give the same images once shrunk
    for name in ("best", "last"):
        assert plain[name].read_bytes() == large[name].read_bytes() == workers[name].read_bytes()


def test_a_canvas_of_other_images_is_refused(inputs, tmp_path):
    write_pixels(tmp_path / "canvas.zarr", train=19)
    with pytest.raises(ValueError, match=r"canvas\.zarr and .*pixels\.zarr differ in their training images"):
        run(inputs, tmp_path / "out", canvas="32x48", canvas_pixels=tmp_path / "canvas.zarr")
    write_pixels(tmp_path / "classes.zarr", train=18, classes=("b", "a"))
    with pytest.raises(ValueError, match=r"classes\.zarr and .*pixels\.zarr differ in their classes"):
        run(inputs, tmp_path / "out", canvas="32x48", canvas_pixels=tmp_path / "classes.zarr")
    with pytest.raises(ValueError, match="canvas is 64x96 and its pixels are None"):
        run(inputs, tmp_path / "out", canvas="64x96")


def test_the_loss_is_taken_on_the_submission_grid_and_the_dice_is_not(inputs, tmp_path, monkeypatch):
    seen = []

    def loss_of_recipe(recipe, classes, grid):
        seen.append(grid)
        return losses.loss_of_recipe(recipe, classes, grid)

    monkeypatch.setattr(trainer, "loss_of_recipe", loss_of_recipe)
    still = {"epochs": 1, "learning_rate": 1e-30, "weight_decay": 0}
    plain = pd.read_csv(run(inputs, tmp_path / "plain", submission_size=(20, 31), **still)["history"], sep="\t")
    options = still | {"loss_grid": "submission"}
    grid = pd.read_csv(run(inputs, tmp_path / "grid", submission_size=(20, 31), **options)["history"], sep="\t")
    assert seen == [None, (20, 31)]
    assert (plain["valid_dice"] == grid["valid_dice"]).all()
    assert (plain[["train_loss", "valid_loss"]] != grid[["train_loss", "valid_loss"]]).all(axis=None)
    with pytest.raises(ValueError, match="loss_grid: submission needs the size of the submission grid"):
        run(inputs, tmp_path / "none", **options)


def test_on_the_grid_of_the_images_both_losses_are_one(inputs, tmp_path):
    plain = run(inputs, tmp_path / "plain", epochs=2)
    grid = run(inputs, tmp_path / "grid", epochs=2, loss_grid="submission", submission_size=(32, 48))
    columns = ["train_loss", "valid_loss"]
    expected = pd.read_csv(plain["history"], sep="\t")[columns]
    assert np.allclose(pd.read_csv(grid["history"], sep="\t")[columns], expected, rtol=1e-4)


def test_other_losses_learn_too(inputs, tmp_path):
    loss = {"focal": 1, "tversky": 1, "lovasz": 0.2}
    outputs = run(inputs, tmp_path, epochs=10, learning_rate=1e-2, loss=loss)
    history = pd.read_csv(outputs["history"], sep="\t")
    assert history["train_loss"].iloc[-1] < 0.7 * history["train_loss"].iloc[0]
    assert history["valid_dice"].max() > 0.75


def test_a_grey_network_is_trained_and_told_from_one_of_colours(inputs, tmp_path):
    still = {"epochs": 1, "learning_rate": 1e-30, "weight_decay": 0}
    start = read_state(inputs / "weights.safetensors")[0]
    state, about = read_state(run(inputs, tmp_path, channels="gray", **still)["last"])
    assert about["channels"] == 1
    first = "model.conv1.0.weight"
    torch.testing.assert_close(state[f"encoder.{first}"], start[first].sum(1, keepdim=True), rtol=0, atol=1e-20)
    model = build_model(about["encoder"], about["decoder"], len(about["classes"]), channels=about["channels"])
    load_strictly(model.network, state, "last")


@pytest.mark.parametrize("schedule", ["constant", "one_cycle", "plateau"])
def test_schedules_reach_the_optimiser(inputs, tmp_path, monkeypatch, schedule):
    rates = []

    class Spy(torch.optim.AdamW):
        def step(self, closure=None):
            rates.append(self.param_groups[0]["lr"])
            return super().step(closure)

    monkeypatch.setattr(torch.optim, "AdamW", Spy)
    options = {"epochs": 8, "learning_rate": 2e-3, "warmup": 1, "best_by": "loss"}
    outputs = run(inputs, tmp_path, schedule=schedule, plateau_patience=0, plateau_factor=0.1, **options)
    history = pd.read_csv(outputs["history"], sep="\t")
    by_epoch = np.array(rates).reshape(8, -1)
    assert np.allclose(history["learning_rate"], by_epoch[:, -1], rtol=1e-5)
    if schedule == "constant":
        assert by_epoch[0, 0] < by_epoch[0, -1] <= 2e-3
        assert (by_epoch[1:] == 2e-3).all()
    elif schedule == "one_cycle":
        assert np.isclose(by_epoch[0, 0], 2e-3 / 25)
        assert 1.9e-3 < by_epoch.max() <= 2e-3
        assert by_epoch[-1, -1] < 1e-8
    else:
        worse = (history["valid_loss"] >= history["valid_loss"].cummin().shift(fill_value=np.inf)).cumsum()
        expected = 2e-3 * 0.1 ** worse.shift(fill_value=0)
        assert worse.iloc[-2] > 0  # it was lowered at all
        assert np.allclose(by_epoch[1:], expected.to_numpy()[1:, None])


def test_incomplete_batches_are_left_out_on_demand(inputs, tmp_path, monkeypatch):
    sizes = []
    forward = Segmenter.forward

    def look(self, image):
        if self.training:
            sizes.append(len(image))
        return forward(self, image)

    monkeypatch.setattr(Segmenter, "forward", look)
    run(inputs, tmp_path / "all", epochs=1, batch=7)
    run(inputs, tmp_path / "full", epochs=1, batch=7, drop_last=True)
    assert sizes == [7, 2, 7]
    with pytest.raises(ValueError, match=r"the 9 images that fold 0 .* make no batch of 10, and `drop_last`"):
        run(inputs, tmp_path / "none", batch=10, drop_last=True)


def test_a_training_by_the_fastest_algorithms_says_and_records_it(inputs, tmp_path, capsys):
    for name, wanted in (("usual", None), ("fastest", False)):
        train(small_training(inputs, tmp_path / name, epochs=1, deterministic=wanted))
    assert "two runs differ in last bits" in capsys.readouterr().out
    records = {name: json.loads((tmp_path / name / "run.json").read_text()) for name in ("usual", "fastest")}
    assert records["fastest"]["deterministic"] is False
    assert records["fastest"]["recipe"]["deterministic"] is False
    assert "deterministic" not in records["usual"] and "deterministic" not in records["usual"]["recipe"]
    train(small_training(inputs, tmp_path / "again", epochs=1))
    assert torch.are_deterministic_algorithms_enabled()
