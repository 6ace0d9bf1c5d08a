"""A provenance of two runs with two checkpoints each, to be changed."""

from cloudseg.provenance.content import read_content
from cloudseg.provenance.record import SCHEMA_VERSION, Provenance

MADE_WITH = {"code": 2, "numpy": "2.0", "torch": "2.5", "processor": "AVX2", "numcodecs": "0.1"}
CODES = {"demo": 1, "dataset": 2, "training": 2, "prediction": 2, "ensemble": 2, "report": 2}
ROWS = ["a.jpg_Fish", "a.jpg_Sugar", "b.jpg_Fish", "b.jpg_Sugar"]
MASKS = dict(zip(ROWS, ["1 3 9 2", "", "", "5 5"], strict=True))


def csv_text(masks=MASKS, end="\n"):
    return end.join(["Image_Label,EncodedPixels", *(f"{name},{mask}" for name, mask in masks.items()), ""])


def write_csv(path, text=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes((csv_text() if text is None else text).encode())
    return path


def training(fold, size="64x96", **changes):
    return {
        "run": f"resnet/fpn/{size}/quick/fold{fold}",
        "encoder": "resnet",
        "decoder": "fpn",
        "size": size,
        "recipe_name": "quick",
        "fold": fold,
        "recipe": {"epochs": 4},
        "start": "imagenet",
        "start_sha256": "5" * 64,
        "data": "d" * 64,
        "seed": 1,
        "threads": 1,
        "code": 2,
        "precision": "bfloat16",
        "batch": {"images": 4},
        "devices": ["cpu x86_64"],
        "processor": "AVX2",
        "versions": {"python": "3.11", "torch": "2.5"},
        "commit": "c" * 40,
        "parameters": 1_000_000,
        "epochs": 4,
        "best_epoch": 3,
        "seconds": 30.0 + fold,
        "checkpoints": {"best": f"{fold}b" * 32, "last": f"{fold}a" * 32},
        "otherwise": [],
        "prediction_recipe": {"batch": 4},
    } | changes


def prediction(**changes):
    plain = {"settings": "e" * 64, "device": "cpu", "precision": "torch.bfloat16", "batch": 4, "made_with": MADE_WITH}
    return plain | changes


def member(fold, checkpoint, size="64x96", **changes):
    return {
        "run": f"resnet/fpn/{size}/quick/fold{fold}",
        "fold": fold,
        "checkpoint": checkpoint,
        "sha256": training(fold)["checkpoints"][checkpoint],
        "weight": 0.25,
        "valid_weight": 0.5,
        "predictions": {"test": prediction(), "valid": prediction()},
    } | changes


def provenance(path, **changes):
    """Return the provenance of a CSV file."""
    cuts = {name: {"level": 128, "threshold": 0.502, "min_size": 50} for name in ("Fish", "Sugar")}
    plain = {
        "schema_version": SCHEMA_VERSION,
        "config_name": "tiny",
        "ensemble": "all",
        "smoke": False,
        "csv": read_content(path).facts,
        "score": {"dice": 0.7, "how": "fixed", "optimistic": [], "images": 9, "folds": [0, 1], "expected": None},
        "decision": {
            "sha256": "f" * 64,
            "plain": {"how": "fixed", "images": 9, "classes": cuts},
            "rule": {"how": "fixed", "thresholds": [0.5, 0.5], "min_sizes": [50, 50], "tune_min_sizes": [50]},
            "min_sizes": [50],
        },
        "sharpen": None,
        "allow_squeezed": False,
        "blends": {split: {"run": "9" * 64, "images": 9} for split in ("valid", "test")},
        "members": [member(fold, checkpoint) for fold in (0, 1) for checkpoint in ("best", "last")],
        "trainings": [training(0), training(1)],
        "prediction_threads": 1,
        "images": {
            "classes": ["Fish", "Sugar"],
            "submission_size": [20, 30],
            "train": ["1" * 64],
            "test": ["2" * 64],
            "counts": {"train": 9, "test": 2},
            "folds": "3" * 64,
        },
        "config": {"name": "tiny", "seed": 1, "recipes": {"quick": {"epochs": 4}}},
        "sheet": [{"encoder": "resnet", "decoder": "fpn", "size": "64x96", "recipe": "quick", "folds": 2, "note": ""}],
        "written_by": {"commit": "c" * 40, "codes": CODES, "versions": {"python": "3.11"}},
    }
    return Provenance.model_validate(plain | changes)
