# Probabilities: of the best and last checkpoint of a run, for its validation fold or for the test images.


rule predict:
    input:
        best="<run>/best.safetensors",
        last="<run>/last.safetensors",
        pixels=PLAN.predicted_pixels,
        folds=PLAN.predicted_folds,
    output:
        best=directory("<run>/best-{split}.zarr"),
        last=directory("<run>/last-{split}.zarr"),
    log:
        "<run>/predict-{split}.log",
    benchmark:
        "<run>/predict-{split}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpus,
        mem_mb=ESTIMATES.memory("predict"),
        runtime=ESTIMATES.minutes("predict"),
        disk_mb=PLAN.prediction_megabytes,
    params:
        recipe=PLAN.prediction_recipe,
        submission_size=PLAN.submission_size,
        threads=PLAN.threads,
        code=CODE["prediction"],
    message:
        "predict {wildcards.encoder} {wildcards.decoder} {wildcards.size} {wildcards.recipe} fold {wildcards.fold} {wildcards.split}: about {resources.disk_mb} MB on disk"
    script:
        "../scripts/predict.py"
