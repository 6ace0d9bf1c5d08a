import pandas as pd
import pytest
import torch

from cloudseg.dataset.check import check_dataset
from cloudseg.dataset.pixels import build_pixels
from cloudseg.postprocess import decode_rle
from cloudseg.storage import stores
from cloudseg.studies import loading
from cloudseg.training.data.dataset import SegmentationDataset
from cloudseg.training.data.images import LabelledImages

CLASSES = ["Fish", "Flower", "Gravel", "Sugar"]
NORM = {"mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.fixture(scope="module")
def dataset(small_images, tmp_path_factory):
    pixels = tmp_path_factory.mktemp("pixels") / "64x96.zarr"
    images, report = check_dataset(small_images, classes=CLASSES, size_of_submission=(35, 52), workers=1)
    report.raise_for_errors()
    build_pixels(images, small_images, pixels, split="train", size="64x96", classes=CLASSES)
    return {"images": images, "root": small_images, "pixels": pixels}


def timed(dataset, **options):
    settings = {"encoder": "tu-test_resnet", "decoder": "fpn", "normalisation": NORM, "repeats": 1} | options
    return loading.loading_table(**dataset, **settings)


def test_resizing_files_gives_the_samples_of_the_store(dataset):
    rows = dataset["images"].query("split == 'train'")
    resized = loading.FileSamples(dataset["root"], rows, CLASSES, (64, 96))
    ids = stores.read(dataset["pixels"]).attrs["ids"]
    stored = SegmentationDataset(LabelledImages(dataset["pixels"], range(len(ids))))
    assert len(resized) == len(stored) == 12
    for place, name in enumerate(rows["image"]):
        for ours, theirs in zip(resized[place], stored[0, ids.index(name)], strict=True):
            assert torch.equal(ours, theirs)


def test_samples_of_full_size_are_the_files_and_their_labels(dataset):
    rows = dataset["images"].query("split == 'train'").tail(3)
    samples = loading.FileSamples(dataset["root"], rows, CLASSES)
    texts = pd.read_csv(dataset["root"] / "train.csv", keep_default_na=False).set_index("Image_Label")["EncodedPixels"]
    seen = 0
    for place, name in enumerate(rows["image"]):
        image, mask = samples[place]
        assert (image.shape, mask.shape) == ((140, 210, 3), (140, 210, 1))
        for bit, label in enumerate(CLASSES):
            expected = torch.from_numpy(decode_rle(texts[f"{name}_{label}"], (140, 210)).copy())
            assert torch.equal(mask[..., 0] >> bit & 1, expected)
            seen += int(expected.sum())
    assert seen > 0


def test_the_table_has_a_row_for_each_way_and_ratios_that_follow(dataset, monkeypatch):
    passes = []
    go = loading._pass
    monkeypatch.setattr(
        loading, "_pass", lambda *args, batches: (passes.append((args[1] is None, batches)), go(*args, batches))
    )
    table = timed(dataset, count=5, batch=2, repeats=2)
    assert list(table.columns) == loading.COLUMNS
    assert table["way"].tolist() == ["original", "decode, then resize", "resized store"]
    assert table["size"].tolist() == ["140x210", "64x96", "64x96"]
    assert table["images"].tolist() == [4, 4, 4]  # whole batches
    assert table["diary_ratio"].round(2).tolist() == [1, 0.83, 0.46]
    for what in ("loader", "epoch"):
        assert (table[f"{what}_seconds"] > 0).all()
        expected = table[f"{what}_seconds"] / table[f"{what}_seconds"][0]
        assert table[f"{what}_ratio"].tolist() == pytest.approx(expected.tolist())
    # Loader and epoch of three ways: warmed up by a batch, then timed twice
    assert passes == [(True, 1), (False, 1)] * 3 + [(True, None), (False, None)] * 6


def test_an_epoch_trains(dataset, monkeypatch):
    built = []
    build = loading.build_model
    monkeypatch.setattr(loading, "build_model", lambda *args: built.append(build(*args)) or built[-1])
    timed(dataset, count=2, seed=3)
    torch.manual_seed(3)
    before = build("tu-test_resnet", "fpn", len(CLASSES))
    moved = [
        not torch.equal(ours, theirs)
        for ours, theirs in zip(built[0].parameters(), before.parameters(), strict=True)
        if ours.ndim > 1
    ]
    assert all(moved)


def test_images_of_other_sizes_are_left_out():
    table = pd.DataFrame(
        {"image": list("abcde"), "split": ["train"] * 4 + ["test"], "height": [4, 9, 9, 9, 9], "width": [4, 9, 9, 9, 9]}
    )
    assert loading.chosen_images(table, list("edcba"), 2)["image"].tolist() == ["b", "c"]
    assert loading.chosen_images(table, ["e"], 2).empty


def test_too_few_images_for_a_batch_are_refused(dataset):
    with pytest.raises(ValueError, match=r"64x96.zarr: expected at least 4 training images .*, got 3"):
        timed(dataset, count=3, batch=4)


def test_loader_processes_load_the_same_number(dataset):
    assert timed(dataset, count=4, workers=1, repeats=2)["images"].tolist() == [4, 4, 4]
