import itertools
from pathlib import Path

from cloudseg import logged
from cloudseg.ensemble.decision import Decision
from cloudseg.ensemble.score_tables import read_image_scores, read_scores
from cloudseg.report.ablation import (
    Decided,
    ablation,
    ablation_page,
    epoch_seconds_of,
    seconds_of,
    write_ablation,
)
from cloudseg.storage.files import write_table, write_text

if __name__ == "__main__":
    with logged(snakemake):
        files, params, out = snakemake.input, snakemake.params, snakemake.output
        logs = Path(snakemake.log[0]).parent
        decided, histories = [], iter(files.histories)
        for name, note, blend, runs, *paths in zip(
            params.names,
            params.notes,
            params.blends,
            params.runs,
            files.decisions,
            files.scores,
            files.images,
            strict=True,
        ):
            decision = Decision.read(paths[0], params.classes)
            tables = read_scores(paths[1], decision), read_image_scores(paths[2], decision)
            epochs = epoch_seconds_of(itertools.islice(histories, runs))
            decided.append(Decided(name, note, decision, *tables, seconds_of(name, logs), blend, epochs))
        table = ablation(decided, params.baseline, seed=params.seed)
        images = max(each.decision.n_images for each in decided)
        page = ablation_page(table, params.baseline, images)
        write_table(table, out.table)
        write_text(out.page, page)
        write_ablation(table, params.baseline, images, page=out.html, figure=out.figure)
        print(page)
