# Probabilities: best and last checkpoint of a run, its validation fold and the test images, in one job.


rule predict:
    input:
        best="<run>/best.safetensors",
        last="<run>/last.safetensors",
        pixels="<results>/dataset/{size}.zarr",
        folds="<results>/dataset/folds.tsv",
    output:
        best_valid=directory("<run>/best-valid.zarr"),
        best_test=directory("<run>/best-test.zarr"),
        last_valid=directory("<run>/last-valid.zarr"),
        last_test=directory("<run>/last-test.zarr"),
    log:
        "<run>/predict.log",
    benchmark:
        "<run>/predict.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpus,
        mem_mb=PLAN.training_memory,
        runtime=PLAN.training_minutes,
        disk_mb=PLAN.prediction_megabytes,
    params:
        recipe=PLAN.prediction_recipe,
        submission_size=PLAN.submission_size,
        threads=PLAN.threads,
        code=CODE["prediction"],
    message:
        "predict {wildcards.encoder} {wildcards.decoder} {wildcards.size} {wildcards.recipe} fold {wildcards.fold}: about {resources.disk_mb} MB on disk"
    script:
        "../scripts/predict.py"
