import sys

from cloudseg import logged
from cloudseg.files import read_text, write_text

if __name__ == "__main__":
    with logged(snakemake):
        write_text(snakemake.output.submission, read_text(snakemake.input.submission))
        smoke = "SMOKE RUN, not worth sending: " if snakemake.params.smoke else ""
        source = f"{snakemake.input.submission} (ensemble {snakemake.params.ensemble})"
        line = f"{smoke}{snakemake.output.submission} is {source}"
        print(line)
        print(line, file=sys.__stderr__)
