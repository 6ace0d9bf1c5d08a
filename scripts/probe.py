import sys

from cloudseg import logged
from cloudseg.storage.files import read_table, write_table

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.config.sheet import KEY
        from cloudseg.studies.batch_size import join, page

        # An experiment may be called `none`, or by a number
        options = {"dtype": dict.fromkeys(KEY, str), "keep_default_na": False, "na_values": [""]}
        table = join([read_table(path, **options) for path in snakemake.input.tables])
        write_table(table, snakemake.output.table)
        for stream in (sys.stdout, sys.__stdout__):
            print(page(table), file=stream)
