from cloudseg import logged
from cloudseg.config.job import JobConfig
from cloudseg.config.recipe import Recipe
from cloudseg.training.job import TrainingJob

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.runtime.gpus.lease import leased

        with leased(snakemake.resources.get("gpu", 0), **JobConfig.of(snakemake.config).placement) as device:
            from cloudseg.storage.files import write_table, write_text
            from cloudseg.studies.profiling import profile_page, profile_training, profiled_recipe

            inputs, params = snakemake.input, snakemake.params
            job = TrainingJob(
                encoder=params.encoder,
                decoder=params.decoder,
                pixels=inputs.pixels,
                canvas_pixels=inputs.get("canvas") or None,
                folds=inputs.folds,
                fold=0,
                weights="none",
                recipe=profiled_recipe(Recipe(**params.recipe)),
                outputs={},
                submission_size=params.submission_size and tuple(params.submission_size),
                seed=params.seed,
                threads=params.threads,
                workers=max(0, snakemake.threads - params.threads),
            )
            profile = profile_training(job, device, snakemake.output.trace)
            title = (
                f"{job.decoder} on {job.encoder}, {device.type}, {job.threads} threads, {job.workers} loader processes"
            )
            text = profile_page(profile, title)
            write_table(profile.table, snakemake.output.table)
            write_text(snakemake.output.page, text)
            print(text)
