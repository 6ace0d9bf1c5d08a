from pathlib import Path

from cloudseg import logged
from cloudseg.dataset.sample import make_sample
from cloudseg.runtime.logs import tell

if __name__ == "__main__":
    with logged(snakemake):
        taken = make_sample(
            snakemake.input.raw,
            Path(snakemake.output[0]),
            classes=snakemake.params.classes,
            images=snakemake.params.images,
            exclude=snakemake.input.get("exclude"),
            layout=snakemake.params.get("layout"),
        )
        tell(f"smoke: {taken}")
