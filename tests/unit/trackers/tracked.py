"""A folder of results with two finished runs and one that is trained."""

import os

from run_records import write_history, write_record

RUNS = ["tu-test_resnet/fpn/64x96/quick/fold0", "tu-test_resnet/fpn/64x96/quick/fold1"]
DICES = {RUNS[0]: [0.1, 0.7, 0.6], RUNS[1]: [1 / 3, 0.25]}
TRAINED = "tu-test_resnet/unet/64x96/quick/fold0"
END = 1_800_000_000
RECIPE = {"epochs": 3, "loss": {"bce": 1, "dice": 0.5}, "drop_last": False, "canvas": None, "augmentation": [{"p": 1}]}


def make(folder):
    """Write the results and return their folder."""
    results = folder / "results/demo"
    for name, dices in [*DICES.items(), (TRAINED, [0.2])]:
        run = results / "runs" / name
        write_history(run, dices)
        if name in RUNS:
            write_record(run, RECIPE)
        os.utime(run / "history.tsv", (END, END))
    return results
