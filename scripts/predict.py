from cloudseg import logged
from cloudseg.config.job import JobConfig

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.runtime.gpus.lease import leased

        with leased(snakemake.resources.get("gpu", 0), **JobConfig.of(snakemake.config).placement) as device:
            from cloudseg.inference.predict import PredictionJob, predict

            predict(PredictionJob.of_rule(snakemake), device)
