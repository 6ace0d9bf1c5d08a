"""A config and a sheet for a small data set of one's own, which trains in seconds, and what a run of it leaves."""

import hashlib
import shutil

import yaml

CONFIG = {
    "name": "tiny",
    "dataset": {"source": "path", "root": "images"},
    "submission_size": "210x315",
    "folds": {"count": 2},
    "recipes": {"tiny": {"start": "none", "epochs": 4, "batch": 4, "tta": [{"view": "identity"}, {"view": "both"}]}},
    "experiments": "sheet.tsv",
    "decision": {"threshold": 0.3, "min_size": 20},
    "min_sizes": [0, 50, 200],
    "ensembles": {"all": {"members": "fold >= 0", "checkpoints": ["best", "last"], "decision": {"how": "tune"}}},
    "submission": "all",
}


def sheet_of(folds):
    """Return a sheet that trains so many folds with each decoder."""
    rows = [f"tu-test_resnet\t{decoder}\t64x96\ttiny\t{count}" for decoder, count in folds.items()]
    return "\n".join(["encoder\tdecoder\tsize\trecipe\tfolds", *rows, ""])


SHEET = sheet_of({"fpn": 2})


def settle(folder, images):
    """Put the images, the config and the sheet into a working directory."""
    shutil.copytree(images, folder / "images")
    write_config(folder, CONFIG)
    (folder / "sheet.tsv").write_text(SHEET)


def write_config(folder, config):
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


def contents(folder):
    """Digest of every result that must not depend on how it was computed."""
    wanted = [folder / "submission.csv", *(folder / "results").rglob("*")]
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in wanted
        if path.is_file()
        and path.name != ".snakemake_timestamp"
        and (path.suffix in (".safetensors", ".csv", ".yaml") or ".zarr/" in str(path))
    }
