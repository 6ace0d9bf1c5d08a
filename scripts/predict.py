from cloudseg import logged
from cloudseg.config.job import JobConfig
from cloudseg.storage.records import write_made_with

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.runtime.gpus.lease import leased

        with leased(snakemake.resources.get("gpu", 0), **JobConfig.of(snakemake.config).placement) as device:
            from cloudseg.inference.predict import PredictionJob, predict

            write_made_with(snakemake.log[0], predict(PredictionJob.of_rule(snakemake), device))
