from cloudseg import logged
from cloudseg.config.job import JobConfig
from cloudseg.config.recipe import Recipe

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.runtime.gpus.lease import leased

        with leased(snakemake.resources.get("gpu", 0), **JobConfig.of(snakemake.config).placement) as device:
            from cloudseg.dataset.contest import ContestFolder
            from cloudseg.dataset.images_table import read_images
            from cloudseg.report.study_pages import loading_html
            from cloudseg.storage.files import write_table, write_text
            from cloudseg.studies.loading import loading_page, loading_table

            params = snakemake.params
            workers = max(0, snakemake.threads - params.threads)
            table = loading_table(
                images=read_images(snakemake.input.images),
                root=ContestFolder.of_job(snakemake.input.raw, params),
                pixels=snakemake.input.pixels,
                encoder=params.encoder,
                decoder=params.decoder,
                normalisation=Recipe(**params.recipe).normalise.model_dump(mode="json"),
                count=params.images,
                batch=params.batch,
                repeats=params.repeats,
                seed=params.seed,
                threads=params.threads,
                workers=workers,
                device=device,
            )
            about = (
                f"{params.decoder} on {params.encoder}, batches of {params.batch}, {device.type}, "
                f"{params.threads} numerical threads, {workers} loader processes"
            )
            text = loading_page(table, about)
            write_table(table, snakemake.output.table)
            write_text(snakemake.output.page, text)
            found = text.splitlines()[-1]
            loading_html(table, about, snakemake.output.html, snakemake.output.chart, verdict=found)
            print(text)
