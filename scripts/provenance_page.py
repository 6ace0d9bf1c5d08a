from cloudseg import logged
from cloudseg.provenance.record import Provenance
from cloudseg.report.provenance_page import write_provenance_page

if __name__ == "__main__":
    with logged(snakemake):
        write_provenance_page(Provenance.read(snakemake.input.provenance), snakemake.output.page)
