import sys

from cloudseg import logged, stores
from cloudseg.dataset.folds import read_folds
from cloudseg.ensemble.decisions import read_decision
from cloudseg.ensemble.scores import read_image_scores, read_scores
from cloudseg.files import read_json, read_table, write_table, write_text
from cloudseg.report.leaderboard import baselines, common_folds, gains, leaderboard, runs_by_experiment
from cloudseg.report.pages import diary_page, page

if __name__ == "__main__":
    with logged(snakemake):
        files, params = snakemake.input, snakemake.params
        decisions = {
            name: read_decision(path, params.classes) for name, path in zip(params.names, files.decisions, strict=True)
        }
        scores = {
            name: read_scores(path, decisions[name]) for name, path in zip(params.names, files.scores, strict=True)
        }
        images = {
            name: read_image_scores(path, decisions[name])
            for name, path in zip(params.names, files.images, strict=True)
        }
        records = [read_json(path) for path in files.runs]
        histories = [read_table(path) for path in files.histories]
        split = read_folds(files.folds, stores.read(files.truth).attrs["ids"])
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
            print(text, file=stream)
