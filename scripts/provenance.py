from pathlib import Path

from cloudseg import logged
from cloudseg.provenance.chain import Ensemble, provenance_of
from cloudseg.texts import number_of

if __name__ == "__main__":
    with logged(snakemake):
        inputs, params = snakemake.input, snakemake.params
        placed = zip(params.runs, inputs.runs, inputs.train_pixels, inputs.test_pixels, strict=True)
        ensemble = Ensemble(
            **{
                name: getattr(inputs, name)
                for name in ("submission", "decision", "scores", "images", "parts", "surface", "truth")
            },
            blends={"valid": inputs.valid, "test": inputs.test},
            stores={"valid": inputs.valid_stores, "test": inputs.test_stores},
            members=params.members,
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
