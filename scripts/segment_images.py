from cloudseg import logged
from cloudseg.bundle.shards import in_shard
from cloudseg.config.job import JobConfig
from cloudseg.dataset.folder import list_images

if __name__ == "__main__":
    with logged(snakemake):
        from cloudseg.runtime.gpus.lease import leased

        with leased(snakemake.resources.get("gpu", 0), **JobConfig.of(snakemake.config).placement) as device:
            from cloudseg.bundle.bundle import Bundle
            from cloudseg.bundle.folder import write_masks
            from cloudseg.bundle.loaded import LoadedBundle

            # Not params: the digests there say all that counts, however the folder and the file are called
            folder = snakemake.config["images"]
            bundle = snakemake.config.get("bundle") or snakemake.params.own_bundle
            names = [name for name in list_images(folder) if in_shard(name, snakemake.wildcards.shard)]
            loaded = LoadedBundle(Bundle.read(bundle), device)
            summary = write_masks(loaded.predictor, folder, names, snakemake.output.masks, readers=snakemake.threads)
            print(f"{snakemake.output.masks}: {len(names)} images, {summary.filled} of {summary.rows} rows with a mask")
