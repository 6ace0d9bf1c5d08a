import itertools

from cloudseg import logged
from cloudseg.config.decision import pixels_of
from cloudseg.ensemble.head_scores import Head, head_scores
from cloudseg.ensemble.plane_scores import PlaneScore
from cloudseg.report.classifiers_page import LARGEST_PIXELS, write_classifiers
from cloudseg.storage.files import write_table

if __name__ == "__main__":
    with logged(snakemake):
        files, params, out = snakemake.input, snakemake.params, snakemake.output
        values, planes = iter(files.heads), iter(files.planes)
        heads = []
        for row in params.rows:
            about = {name: cell for name, cell in row.items() if name != "planes"}
            of_head = list(itertools.islice(values, row["folds"]))
            heads.append(Head(about, of_head, list(itertools.islice(planes, row["folds"] if row["planes"] else 0))))
        table = head_scores(
            heads,
            files.truth,
            score=lambda pixels: PlaneScore("top", pixels_of(LARGEST_PIXELS, pixels, least=1)),
            threads=snakemake.threads,
        )
        write_table(table, out.table)
        print(write_classifiers(table, out.page, out.chart))
