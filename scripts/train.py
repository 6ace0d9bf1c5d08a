from pathlib import Path

from cloudseg import logged
from cloudseg.experiments import whole_recipe

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.network.train import train

        train(
            encoder=snakemake.wildcards.encoder,
            decoder=snakemake.wildcards.decoder,
            pixels=Path(snakemake.input.pixels),
            folds=Path(snakemake.input.folds),
            fold=int(snakemake.wildcards.fold),
            weights=Path(snakemake.input.weights),
            recipe=whole_recipe(snakemake.params.recipe),
            outputs={name: Path(path) for name, path in snakemake.output.items()},
            seed=snakemake.params.seed,
            threads=snakemake.params.threads,
            workers=max(0, snakemake.threads - snakemake.params.threads),
            # Where a job runs is no property of its result: not a param, so that moving house reruns nothing.
            device=snakemake.config.get("device", "auto"),
            gpus=snakemake.resources.get("gpu", 0),
        )
