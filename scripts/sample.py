import sys
from pathlib import Path

from cloudseg import logged
from cloudseg.dataset.sample import make_sample

if __name__ == "__main__":
    with logged(snakemake):
        taken = make_sample(
            snakemake.input.raw,
            Path(snakemake.output[0]),
            classes=snakemake.params.classes,
            images=snakemake.params.images,
        )
        for stream in (sys.stdout, sys.__stderr__):
            print(f"smoke: {taken}", file=stream)
