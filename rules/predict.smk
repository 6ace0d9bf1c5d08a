# Probabilities: of the best and last checkpoint of a run, for its validation fold or for the test images.


rule predict:
    """Predict a split with the best and the last checkpoint of a run."""
    input:
        best="<run>/best.safetensors",
        last="<run>/last.safetensors",
        pixels=of_prediction("pixels"),
        folds=of_prediction("folds"),
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
        **ESTIMATES.of("predict", of_prediction("work")),
        gpu=PLAN.gpus,
        disk_mb=of_prediction("megabytes"),
    params:
        recipe=of_prediction("recipe"),
        submission_size=PLAN.dataset.submission_size,
        threads=PLAN.threads,
        code=CODE["prediction"],
    message:
        "predict {wildcards.encoder} {wildcards.decoder} {wildcards.size} {wildcards.recipe} fold {wildcards.fold} {wildcards.split}: about {resources.disk_mb} MB on disk"
    script:
        "../scripts/predict.py"
