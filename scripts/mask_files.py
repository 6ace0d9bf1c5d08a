from cloudseg import logged
from cloudseg.bundle import mask_files

WRITERS = {"coco": mask_files.write_coco, "png": mask_files.write_pngs, "overlays": mask_files.write_overlays}

if __name__ == "__main__":
    with logged(snakemake):
        params, files = snakemake.params, snakemake.input
        images = snakemake.config["images"]  # no param: their digest is
        table = mask_files.MaskTable(files.masks, images, params.classes, tuple(params.size), snakemake.threads)
        [(kind, out)] = snakemake.output.items()
        WRITERS[kind](table, out)
