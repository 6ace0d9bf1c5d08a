from cloudseg import logged

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.runtime.gpus.lease import leased

        with leased(snakemake) as device:
            from cloudseg.inference.predict import PredictionJob, predict

            predict(PredictionJob.of_rule(snakemake), device)
