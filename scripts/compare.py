import json

from cloudseg import logged
from cloudseg.ensemble.comparing import compare
from cloudseg.ensemble.decision import Decision, DecisionRule
from cloudseg.ensemble.score_tables import read_image_scores
from cloudseg.storage.files import write_text

if __name__ == "__main__":
    with logged(snakemake):
        files, params = snakemake.input, snakemake.params
        voters = zip(params.members if files.voters else [], files.voters, strict=True)
        comparison = compare(
            read_image_scores(files.images, Decision.read(files.decision, params.classes)),
            dict(zip(params.members, files.members, strict=True)),
            files.truth,
            folds=params.folds,
            classes=params.classes,
            rule=DecisionRule(**params.decision),
            seed=params.seed,
            voters={name: Decision.read(path, params.classes) for name, path in voters},
            threads=snakemake.threads,
        )
        write_text(snakemake.output.comparison, json.dumps(comparison, indent=2) + "\n")
