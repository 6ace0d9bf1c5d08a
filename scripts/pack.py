from cloudseg import logged
from cloudseg.bundle.pack import pack
from cloudseg.runtime.logs import tell

if __name__ == "__main__":
    with logged(snakemake):
        tell(*pack(snakemake.input.provenance, snakemake.params.results, snakemake.output.bundle))
