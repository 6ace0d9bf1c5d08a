from pathlib import Path

from cloudseg import logged
from cloudseg.experiments import whole_recipe

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.network.predict import predict

        predict(
            checkpoints={"best": Path(snakemake.input.best), "last": Path(snakemake.input.last)},
            pixels=Path(snakemake.input.pixels),
            folds=Path(snakemake.input.folds),
            fold=int(snakemake.wildcards.fold),
            outputs={name.replace("_", "-"): Path(path) for name, path in snakemake.output.items()},
            size=tuple(snakemake.params.submission_size),
            recipe=whole_recipe(snakemake.params.recipe),
            threads=snakemake.params.threads,
            device=snakemake.config.get("device", "auto"),
            gpus=snakemake.resources.get("gpu", 0),
        )
