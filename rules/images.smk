# New images, predicted by a bundle: `snakemake predictions/NAME/masks.csv --config images=FOLDER`. No rule that trains is
# there, so that nothing else can be made.

try:
    NEW_IMAGES = PLAN.new_images(RESULTS)
except ValueError as error:
    raise WorkflowError(str(error)) from None

of_new_images = ask(lambda **_: NEW_IMAGES)
of_shard = ask(NEW_IMAGES.shard)


rule segment_images:
    """Predict the images of a shard, and make masks of them."""
    output:
        masks="predictions/{prediction}/shards/{shard}.csv",
    log:
        "<logs>/predictions/{prediction}/{shard}.log",
    benchmark:
        "<logs>/predictions/{prediction}/{shard}.benchmark.tsv"
    wildcard_constraints:
        shard="all|[01]+",
    conda:
        "../envs/workflow.yaml"
    threads: NEW_IMAGES.threads
    resources:
        **ESTIMATES.of("segment_images", of_shard("work")),
        gpu=PLAN.gpus,
    params:
        contents=of_shard("contents"),
        bundle=NEW_IMAGES.digest,
        own_bundle=NEW_IMAGES.own_bundle,
        code=BUNDLE_CODE,
    script:
        "../scripts/segment_images.py"


rule gather_masks:
    """Write the masks of all shards into one file, sorted by image."""
    input:
        shards=expand(
            "predictions/{{prediction}}/shards/{shard}.csv", shard=NEW_IMAGES.shards
        ),
    output:
        masks="predictions/{prediction}/masks.csv",
    log:
        "<logs>/predictions/{prediction}/masks.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("gather_masks", NEW_IMAGES.whole_work),
    params:
        classes=NEW_IMAGES.classes,
        code=BUNDLE_CODE,
    script:
        "../scripts/gather_masks.py"


rule coco:
    """Write the masks as objects of COCO."""
    input:
        masks="predictions/{prediction}/masks.csv",
    output:
        coco="predictions/{prediction}/coco.json",
    log:
        "<logs>/predictions/{prediction}/coco.log",
    conda:
        "../envs/workflow.yaml"
    threads: 8
    resources:
        **ESTIMATES.of("coco", NEW_IMAGES.whole_work),
    params:
        contents=of_new_images("contents"),
        classes=NEW_IMAGES.classes,
        size=NEW_IMAGES.size,
        code=BUNDLE_CODE,
    script:
        "../scripts/mask_files.py"


use rule coco as png with:
    output:
        png=directory("predictions/{prediction}/png"),
    log:
        "<logs>/predictions/{prediction}/png.log",


use rule coco as overlays with:
    output:
        overlays=directory("predictions/{prediction}/overlays"),
    log:
        "<logs>/predictions/{prediction}/overlays.log",
