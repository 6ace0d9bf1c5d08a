from cloudseg import logged
from cloudseg.experiments import whole_recipe

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.network.lease import leased

        # Where a job runs is no property of its result: no param, so that moving house reruns nothing.
        with leased(snakemake) as device:
            from cloudseg.network.attempts import train_on

            recipe = whole_recipe(snakemake.params.recipe)
            train_on(
                device,
                encoder=snakemake.wildcards.encoder,
                decoder=snakemake.wildcards.decoder,
                pixels=snakemake.input.pixels,
                folds=snakemake.input.folds,
                fold=int(snakemake.wildcards.fold),
                weights=snakemake.input.weights,
                recipe=recipe,
                outputs=dict(snakemake.output.items()),
                seed=snakemake.params.seed,
                canvas_pixels=snakemake.input.get("canvas") or None,
                submission_size=snakemake.params.get("submission_size"),
                code=snakemake.params.code,
                keep_state=snakemake.config.get("keep_state", True) not in (False, "false"),
                threads=snakemake.params.threads,
                workers=max(0, snakemake.threads // recipe["gpus"] - snakemake.params.threads),
            )
