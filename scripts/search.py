import yaml

from cloudseg import logged
from cloudseg.ensemble.selecting import select
from cloudseg.report.selection_page import write_selection_page
from cloudseg.storage.files import write_table, write_text

if __name__ == "__main__":
    with logged(snakemake):
        files, params, out = snakemake.input, snakemake.params, snakemake.output
        selection = select(
            files.stores,
            params.members,
            files.truth,
            powers=[None if power == 1 else power for power in params.search["sharpen"]],
            steps=params.search["steps"],
            tolerance=params.search["least_gain"],
            reduce=params.search.get("reduce"),
            threads=snakemake.threads,
        )
        write_table(selection.table(), out.path)
        write_selection_page(selection, snakemake.wildcards.ensemble, page=out.page, figure=out.figure)
        write_text(out.selection, yaml.safe_dump(selection.plain(), sort_keys=False))
