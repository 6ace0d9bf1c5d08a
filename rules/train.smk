# Networks: their initial weights, one training per encoder, decoder, size, recipe and fold, and what it takes.


rule weights:
    input:
        # What is in a file of the user decides, not its time
        file=ancient(PLAN.weights_file),
        run=PLAN.weights_run,
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
        mem_mb=ESTIMATES.memory("weights"),
        runtime=ESTIMATES.minutes("weights"),
    params:
        source=PLAN.weights_source,
        contents=PLAN.weights_contents,
        seed=PLAN.seed,
        code=CODE["training"],
    script:
        "../scripts/weights.py"


rule train:
    input:
        pixels="<results>/dataset/train/{size}.zarr",
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
        gpu=PLAN.training_gpus,
        mem_mb=ESTIMATES.memory("train"),
        runtime=ESTIMATES.minutes("train"),
    params:
        recipe=PLAN.training_recipe,
        submission_size=PLAN.loss_size,
        seed=PLAN.seed,
        threads=PLAN.threads,
        code=CODE["training"],
    script:
        "../scripts/train.py"


rule probe_one:
    output:
        table="<results>/probe/{encoder}/{decoder}/{size}/{recipe}.tsv",
    log:
        "<logs>/probe/{encoder}/{decoder}/{size}/{recipe}.log",
    conda:
        "../envs/workflow.yaml"
    threads: PLAN.threads
    resources:
        gpu=PLAN.gpus,
        mem_mb=ESTIMATES.memory("probe_one"),
        runtime=ESTIMATES.minutes("probe_one"),
    params:
        recipe=PLAN.training_recipe,
        classes=len(PLAN.classes),
        pixels_size=PLAN.pixels_size,
        submission_size=PLAN.loss_size,
        threads=PLAN.threads,
        memory=PLAN.settings["probe_memory"],
        # Here, unlike elsewhere, where it runs is what is measured
        device=PLAN.settings["device"],
        cpu_instead=PLAN.cpu_instead(),
        code=CODE["training"],
    script:
        "../scripts/probe_one.py"


rule probe:
    input:
        tables=PLAN.probes,
    output:
        table="<results>/report/probe.tsv",
    log:
        "<logs>/probe.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=ESTIMATES.memory("probe"),
        runtime=ESTIMATES.minutes("probe"),
    script:
        "../scripts/probe.py"
