from pathlib import Path

from cloudseg import logged
from cloudseg.provenance.chain import Blend, Ensemble, provenance_of
from cloudseg.texts import number_of

SPLITS = "valid", "test"

if __name__ == "__main__":
    with logged(snakemake):
        inputs, params = snakemake.input, snakemake.params
        black = {split: next(iter(inputs[f"{split}_black"]), None) for split in SPLITS}
        placed = zip(params.runs, inputs.runs, inputs.train_pixels, inputs.test_pixels, strict=True)
        ensemble = Ensemble(
            **{
                name: getattr(inputs, name)
                for name in ("submission", "decision", "scores", "images", "parts", "surface", "truth")
            },
            blends={
                split: Blend(
                    path=inputs[split],
                    stores=inputs[f"{split}_stores"],
                    members=params.members[split],
                    voters=inputs[f"{split}_voters"],
                    black=black[split],
                )
                for split in SPLITS
            },
            whether={
                split: Blend(
                    path=path,
                    stores=inputs[f"{split}_whether_stores"],
                    members=params.members[f"{split}-whether"],
                    black=black[split],
                )
                for split in SPLITS
                for path in inputs[f"{split}_whether"]  # one or none
            },
            selection=next(iter(inputs.selection), None),
            runs=[
                run | {"folder": str(Path(record).parent), "pixels": {"train": train, "test": test}}
                for run, record, train, test in placed
            ],
            folds=inputs.folds,
            logs=Path(snakemake.log[0]).parents[1],
            facts=params.facts,
        )
        provenance = provenance_of(ensemble, params.codes)
        provenance.write(snakemake.output.provenance)
        members, runs = number_of(len(provenance.members), "member"), number_of(len(provenance.trainings), "run")
        print(f"{snakemake.output.provenance}: {members} of {runs}")
