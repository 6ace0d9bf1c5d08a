from pathlib import Path

from cloudseg import logged

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.trackers.export import export

        folder = Path(snakemake.output.folder)
        count = export(snakemake.wildcards.tracker, folder.parents[1], folder)
        print(f"{count} runs")
