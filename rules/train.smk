# Networks: their initial weights, and one training per encoder, decoder, size, recipe and fold.


rule weights:
    input:
        PLAN.weights_inputs,
    output:
        weights="<results>/weights/{encoder}/{start}.safetensors",
    log:
        "<logs>/weights/{encoder}/{start}.log",
    priority: 100
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        source=PLAN.weights_source,
        seed=PLAN.seed,
        code=CODE["training"],
    script:
        "../scripts/weights.py"


rule train:
    input:
        pixels="<results>/dataset/{size}.zarr",
        canvas=PLAN.canvas_store,
        folds="<results>/dataset/folds.tsv",
        weights=PLAN.initial_weights,
    output:
        best="<run>/best.safetensors",
        last="<run>/last.safetensors",
        history="<run>/history.tsv",
        run="<run>/run.json",
    log:
        "<run>/train.log",
    benchmark:
        "<run>/train.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: PLAN.training_cores
    resources:
        gpu=PLAN.gpus,
        mem_mb=PLAN.training_memory,
        runtime=PLAN.training_minutes,
    params:
        recipe=PLAN.training_recipe,
        submission_size=PLAN.loss_size,
        seed=PLAN.seed,
        threads=PLAN.threads,
        code=CODE["training"],
    script:
        "../scripts/train.py"
