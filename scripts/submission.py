import shutil
import sys

from cloudseg import logged
from cloudseg.files import atomic

if __name__ == "__main__":
    with logged(snakemake):
        with atomic(snakemake.output.submission) as temporary:
            shutil.copyfile(snakemake.input.submission, temporary)
        smoke = "SMOKE RUN, not worth sending: " if snakemake.params.smoke else ""
        source = f"{snakemake.input.submission} (ensemble {snakemake.params.ensemble})"
        source = f"{snakemake.input.submission} (ensemble {snakemake.params.ensemble})"
        line = f"{smoke}{snakemake.output.submission} is {source}"
        print(line)
        print(line, file=sys.__stderr__)
