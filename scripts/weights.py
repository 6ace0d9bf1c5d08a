from pathlib import Path

from cloudseg import logged
from cloudseg.models.weights import initial_weights

if __name__ == "__main__":
    with logged(snakemake):
        source = snakemake.params.source
        initial_weights(
            snakemake.wildcards.encoder,
            f"{source}:{snakemake.input[0]}" if source in ("file", "network") else source,
            Path(snakemake.output.weights),
            seed=snakemake.params.seed,
        )
