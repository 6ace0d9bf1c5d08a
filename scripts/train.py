from cloudseg import logged
from cloudseg.config.job import JobConfig
from cloudseg.runtime.logs import tell
from cloudseg.training.job import TrainingJob

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.runtime.gpus.lease import leased

        job = TrainingJob.of_rule(snakemake)
        finished = job.finished()
        if finished.restore():
            tell(f"{finished.run}: had finished with this recipe and these data; its files are back")
        else:
            # Where a job runs is no property of its result: no param, so that moving house reruns nothing.
            with leased(snakemake.resources.get("gpu", 0), **JobConfig.of(snakemake.config).placement) as device:
                from cloudseg.training.oom_retry import train_with_oom_retry

                train_with_oom_retry(job, device)
            finished.keep()
