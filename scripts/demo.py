from pathlib import Path

from cloudseg import logged
from cloudseg.dataset.demo import make_demo

if __name__ == "__main__":
    with logged(snakemake):
        make_demo(
            Path(snakemake.output[0]),
            **snakemake.params.images,
            seed=snakemake.params.seed,
            workers=snakemake.threads,
            memory=snakemake.resources.mem_mb * 10**6,
        )
