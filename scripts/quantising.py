from cloudseg import logged
from cloudseg.experiments import whole_recipe
from cloudseg.files import write_table, write_text

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.network.lease import leased

        with leased(snakemake) as device:
            from cloudseg.network.quantising import page, study
            from cloudseg.network.views import recipe_views

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
