import sys
from pathlib import Path

import pandas as pd
import yaml

from cloudseg import logged
from cloudseg.files import write_table, write_text
from cloudseg.report.leaderboard import baselines, common_folds, leaderboard, next_commands, page

if __name__ == "__main__":
    with logged(snakemake):
        names = snakemake.params.names
        scores = {
            name: pd.read_csv(path, sep="\t", dtype={"fold": str})
            for name, path in zip(names, snakemake.input.scores, strict=True)
        }
        decisions = {}
        for name, path in zip(names, snakemake.input.decisions, strict=True):
            with Path(path).open(encoding="utf-8") as file:
                decisions[name] = yaml.safe_load(file)
        split = pd.read_csv(snakemake.input.folds, sep="\t")
        folds = common_folds(scores)
        experiments, ensembles = snakemake.params.rows
        baseline = baselines(snakemake.input.truth, split, folds)
        table = leaderboard(experiments, ensembles, scores, decisions, baseline, folds)
        text = page(table, snakemake.params.classes, int(split["fold"].isin(folds).sum()), folds)
        write_table(table, snakemake.output.table)
        write_text(snakemake.output.page, text)
        for stream in (sys.stdout, sys.__stderr__):
            print(text, next_commands(snakemake.output.page), sep="\n", file=stream)
