from cloudseg import logged
from cloudseg.dataset.describe.folder import describe_folder
from cloudseg.runtime.logs import tell

if __name__ == "__main__":
    with logged(snakemake):
        tell(*describe_folder(snakemake.params.folder))
