# Probabilities: of the checkpoints of a run, for its validation fold or for the test images. A network with a
# classification head gives values, too, one per image and class; a classifier gives these alone.


rule predict:
    """Predict a split with the best and the last checkpoint of a run."""
    input:
        best="<run>/best.safetensors",
        last="<run>/last.safetensors",
        pixels=of_prediction("pixels"),
        folds=of_prediction("folds"),
    output:
        best=directory("<run_of_masks>/best-{split}.zarr"),
        last=directory("<run_of_masks>/last-{split}.zarr"),
    log:
        "<run>/predict-{split}.log",
    benchmark:
        "<run>/predict-{split}.benchmark.tsv"
    group:
        of_prediction("group")
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


use rule predict as predict_values with:
    output:
        best=directory("<run_of_masks_and_values>/best-{split}.zarr"),
        last=directory("<run_of_masks_and_values>/last-{split}.zarr"),
        best_values=directory("<run_of_masks_and_values>/best-{split}-values.zarr"),
        last_values=directory("<run_of_masks_and_values>/last-{split}-values.zarr"),


use rule predict as predict_classes with:
    output:
        best_values=directory("<run_of_values>/best-{split}-values.zarr"),
        last_values=directory("<run_of_values>/last-{split}-values.zarr"),


use rule predict as predict_average with:
    input:
        average="<run>/average.safetensors",
        pixels=of_prediction("pixels"),
        folds=of_prediction("folds"),
    output:
        average=directory("<average_of_masks>/average-{split}.zarr"),
    log:
        "<run>/predict-average-{split}.log",
    benchmark:
        "<run>/predict-average-{split}.benchmark.tsv"
    group:
        of_prediction("average_group")


use rule predict_average as predict_average_values with:
    output:
        average=directory("<average_of_masks_and_values>/average-{split}.zarr"),
        average_values=directory(
            "<average_of_masks_and_values>/average-{split}-values.zarr"
        ),


use rule predict_average as predict_average_classes with:
    output:
        average_values=directory("<average_of_values>/average-{split}-values.zarr"),
