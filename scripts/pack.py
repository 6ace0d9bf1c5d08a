from cloudseg import logged
from cloudseg.bundle.pack import pack
from cloudseg.runtime.logs import tell

if __name__ == "__main__":
    with logged(snakemake):
        files = snakemake.input
        tell(*pack(files.provenance, files.decision, files.checkpoints, files.pixels, snakemake.output.bundle))
