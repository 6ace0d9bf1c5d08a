from cloudseg import logged
from cloudseg.config.job import JobConfig
from cloudseg.config.recipe import Recipe

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.runtime.gpus.lease import leased

        with leased(snakemake.resources.get("gpu", 0), **JobConfig.of(snakemake.config).placement) as device:
            import pandas as pd

            from cloudseg.config.sheet import KEY
            from cloudseg.storage.files import write_table
            from cloudseg.studies.batch_size import OWN_MEMORY, find_batch_size

            wildcards, params = snakemake.wildcards, snakemake.params
            # On the CPU a trial must not take more than the job was granted: the machine would swap
            granted = None if device.type == "cuda" else snakemake.resources.mem_mb - OWN_MEMORY
            rows = find_batch_size(
                encoder=wildcards.encoder,
                decoder=wildcards.decoder,
                size=params.pixels_size,
                classes=params.classes,
                recipe=Recipe(**params.recipe),
                device=device,
                threads=params.threads,
                submission_size=params.submission_size,
                memory=params.memory or granted,
            )
            experiment = {name: wildcards[name] for name in KEY}
            write_table(pd.DataFrame([experiment | row for row in rows]).convert_dtypes(), snakemake.output.table)
