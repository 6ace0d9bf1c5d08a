from cloudseg import logged
from cloudseg.dataset.folds import read_folds
from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.score_tables import read_image_scores, read_scores
from cloudseg.report.leaderboard import (
    baselines,
    common_folds,
    expected_scores,
    has_dice,
    leaderboard,
    own_folds,
    runs_by_experiment,
)
from cloudseg.report.leaderboard_page import write_leaderboard
from cloudseg.report.pages import diary_page, page
from cloudseg.storage import per_image, stores
from cloudseg.storage.files import read_json, read_table, write_table, write_text
from cloudseg.training.record import RunRecord

if __name__ == "__main__":
    with logged(snakemake):
        files, params = snakemake.input, snakemake.params
        decisions = {
            name: Decision.read(path, params.classes) for name, path in zip(params.names, files.decisions, strict=True)
        }
        scores = {
            name: read_scores(path, decisions[name]) for name, path in zip(params.names, files.scores, strict=True)
        }
        images = {
            name: read_image_scores(path, decisions[name])
            for name, path in zip(params.ensembles, files.images, strict=True)
        }
        gains = {name: read_json(path) for name, path in zip(params.ensembles, files.comparisons, strict=True)}
        for name, score in expected_scores(images, decisions, params.class_rates).items():
            gains[name]["expected_lb"] = score
        records = [RunRecord.read(path) for path in files.runs]
        histories = [read_table(path) for path in files.histories]
        split = read_folds(files.folds, per_image.ids(stores.read(files.truth)))
        scored = [row for row in params.experiments if has_dice(row)]
        experiments = [scores[row[checkpoint]] for row in scored for checkpoint in ("best", "last")]
        common = common_folds(experiments, [scores[name] for name in params.ensembles])
        everything = sorted({fold for table in scores.values() for fold in own_folds(table)})
        own, fair = (baselines(files.truth, split, folds) for folds in (everything, common))
        table = leaderboard(
            params.experiments,
            params.ensembles,
            scores,
            decisions,
            {name: {"dice": own[name], "dice_common": fair[name]} for name in own},
            common,
            runs=runs_by_experiment(params.experiments, records, histories),
            public_scores=params.posted,
            gains=gains,
        )
        compared = int(split["fold"].isin(common).sum())
        left_out = params.get("left_out", [])
        text = page(table, params.classes, compared, common, left_out=left_out)
        write_table(table, snakemake.output.table)
        write_text(snakemake.output.page, text)
        write_text(snakemake.output.diary, diary_page(table))
        write_leaderboard(
            table,
            params.classes,
            compared,
            common,
            snakemake.output.html,
            snakemake.output.charts,
            left_out=left_out,
        )
        print(text)
