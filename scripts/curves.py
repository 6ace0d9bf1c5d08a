from cloudseg import logged
from cloudseg.report.curves import write_curves

if __name__ == "__main__":
    with logged(snakemake):
        files = snakemake.input
        write_curves(files.leaderboard, files.histories, files.runs, snakemake.output.page, snakemake.output.charts)
