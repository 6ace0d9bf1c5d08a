from cloudseg import logged
from cloudseg.config.schema import whole_recipe

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.runtime.gpus.lease import leased

        with leased(snakemake) as device:
            from cloudseg.config.views import recipe_views
            from cloudseg.inference.predict import predict

            recipe = whole_recipe(snakemake.params.recipe)
            predict(
                checkpoints={"best": snakemake.input.best, "last": snakemake.input.last},
                pixels=snakemake.input.pixels,
                folds=snakemake.input.get("folds") or None,
                fold=int(snakemake.wildcards.fold),
                outputs=dict(snakemake.output.items()),
                views=recipe_views(recipe),
                size=tuple(snakemake.params.submission_size),
                batch=recipe["micro_batch"] or recipe["batch"],
                normalisation=recipe["normalise"],
                precision=recipe["precision"],
                threads=snakemake.params.threads,
                device=device,
                code=snakemake.params.code,
                # A file that somebody put there may be of another network
                network={"encoder": snakemake.wildcards.encoder, "decoder": snakemake.wildcards.decoder},
            )
