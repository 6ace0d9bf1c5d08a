import json

from cloudseg import logged
from cloudseg.ensemble.comparing import compare
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.score_tables import read_image_scores
from cloudseg.storage.files import write_text

if __name__ == "__main__":
    with logged(snakemake):
        files, params = snakemake.input, snakemake.params
        comparison = compare(
            read_image_scores(files.images, Decision.read(files.decision, params.classes)),
            dict(zip(params.members, files.members, strict=True)),
            files.truth,
            folds=params.folds,
            classes=params.classes,
            rule=DecisionRule(**params.decision),
            seed=params.seed,
            threads=snakemake.threads,
        )
        write_text(snakemake.output.comparison, json.dumps(comparison, indent=2) + "\n")
