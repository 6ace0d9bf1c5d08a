from cloudseg import logged
from cloudseg.report.job_times import write_times

if __name__ == "__main__":
    with logged(snakemake):
        made, params = snakemake.output, snakemake.params
        write_times(params.logs, params.runs, table=made.table, page=made.page, chart=made.chart)
