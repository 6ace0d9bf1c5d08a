import json
import sys
from pathlib import Path

import pandas as pd
import yaml

from cloudseg import logged
from cloudseg.files import write_table, write_text
from cloudseg.report.leaderboard import baselines, common_folds, gains, leaderboard, runs_by_experiment
from cloudseg.report.pages import diary_page, next_commands, page

if __name__ == "__main__":
    with logged(snakemake):
        files, params = snakemake.input, snakemake.params
        scores = {
            name: pd.read_csv(path, sep="\t", dtype={"fold": str})
            for name, path in zip(params.names, files.scores, strict=True)
        }
        images = {
            name: pd.read_csv(path, sep="\t", dtype={"image": str}, keep_default_na=False)
            for name, path in zip(params.names, files.images, strict=True)
        }
        decisions = {
            name: yaml.safe_load(Path(path).read_text(encoding="utf-8"))
            for name, path in zip(params.names, files.decisions, strict=True)
        }
        records = [json.loads(Path(path).read_text(encoding="utf-8")) for path in files.runs]
        histories = [pd.read_csv(path, sep="\t") for path in files.histories]
        split = pd.read_csv(files.folds, sep="\t", dtype={"image": str})
        folds = common_folds(scores)
        table = leaderboard(
            params.experiments,
            params.ensembles,
            scores,
            decisions,
            baselines(files.truth, split, folds),
            folds,
            runs=runs_by_experiment(params.experiments, records, histories),
            posted=params.posted,
            gains=gains(params.ensembles, images, decisions, seed=params.seed, rates=params.class_rates),
        )
        text = page(table, params.classes, int(split["fold"].isin(folds).sum()), folds)
        write_table(table, snakemake.output.table)
        write_text(snakemake.output.page, text)
        write_text(snakemake.output.diary, diary_page(table))
        for stream in (sys.stdout, sys.__stderr__):
            print(text, next_commands(snakemake.output.page), sep="\n", file=stream)
