import sys

from cloudseg import logged
from cloudseg.storage.files import read_table, write_table

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.config.sheet import KEY
        from cloudseg.studies.batch_size import join, page

        # A recipe may be called by a number
        table = join([read_table(path, dtype=dict.fromkeys(KEY, str)) for path in snakemake.input.tables])
        write_table(table, snakemake.output.table)
        for stream in (sys.stdout, sys.__stdout__):
            print(page(table), file=stream)
