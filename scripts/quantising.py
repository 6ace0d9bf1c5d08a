from cloudseg import logged
from cloudseg.config.job import JobConfig
from cloudseg.storage.files import write_table, write_text

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.runtime.gpus.lease import leased

        with leased(snakemake.resources.get("gpu", 0), **JobConfig.of(snakemake.config).placement) as device:
            from cloudseg.config.recipe import Recipe
            from cloudseg.report.study_pages import quantising_html
            from cloudseg.studies.quantising import page, study, verdict

            inputs, params = snakemake.input, snakemake.params
            curves, summary = study(
                checkpoint=inputs.checkpoint,
                pixels=inputs.pixels,
                folds=inputs.folds,
                fold=params.fold,
                truth=inputs.truth,
                recipe=Recipe(**params.recipe),
                size=tuple(params.submission_size),
                threads=params.threads,
                device=device,
            )
            text = page(summary, params.run)
            write_table(curves, snakemake.output.curves)
            write_text(snakemake.output.summary, text)
            quantising_html(
                curves, summary, params.run, snakemake.output.html, snakemake.output.chart, verdict=verdict(summary)
            )
            print(text)
