from cloudseg import logged
from cloudseg.config.schema import whole_recipe
from cloudseg.storage.files import write_table, write_text

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.runtime.gpus.lease import leased

        with leased(snakemake) as device:
            from cloudseg.config.views import recipe_views
            from cloudseg.studies.quantising import page, study

            recipe = whole_recipe(snakemake.params.recipe)
            curves, summary = study(
                checkpoint=snakemake.input.checkpoint,
                pixels=snakemake.input.pixels,
                folds=snakemake.input.folds,
                fold=snakemake.params.fold,
                truth=snakemake.input.truth,
                views=recipe_views(recipe),
                size=tuple(snakemake.params.submission_size),
                batch=recipe["batch"],
                normalisation=recipe["normalise"],
                precision=recipe["precision"],
                threads=snakemake.params.threads,
                device=device,
            )
            text = page(summary, snakemake.params.run)
            write_table(curves, snakemake.output.curves)
            write_text(snakemake.output.summary, text)
            print(text)
