# Networks: their initial weights, one training per encoder, decoder, size, recipe and fold, and what it takes.
# `fold` may be that of a replicate (0-seed7), or `all`.


rule weights:
    """Make the initial weights of an encoder."""
    input:
        # What is in a file of the user decides, not its time
        file=ancient(of_initial_weights("file")),
        run=of_initial_weights("checkpoint"),
    output:
        weights="<results>/weights/{encoder}/{start}.safetensors",
    log:
        "<logs>/weights/{encoder}/{start}.log",
    benchmark:
        "<logs>/weights/{encoder}/{start}.benchmark.tsv"
    priority: 100
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("weights", of_dataset("work")),
    params:
        source=of_initial_weights("source"),
        contents=of_initial_weights("contents"),
        seed=of_initial_weights("seed"),
        code=CODE["training"],
    script:
        "../scripts/weights.py"


rule pseudo_labels:
    """Label the test images that the networks of one fold are surest of, to train others of that fold."""
    input:
        stores=of_pseudo_labels("stores"),
        pixels=of_pseudo_labels("pixels"),
    output:
        labels=directory(
            "<ensembles>/{ensemble}/pseudo/{recipe}/{size}-fold{fold}.zarr"
        ),
    log:
        "<logs>/pseudo/{ensemble}-{recipe}-{size}-fold{fold}.log",
    benchmark:
        "<logs>/pseudo/{ensemble}-{recipe}-{size}-fold{fold}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 2
    resources:
        **ESTIMATES.of("pseudo_labels", of_pseudo_labels("work")),
    params:
        members=of_pseudo_labels("named_members"),
        pseudo=of_pseudo_labels("settings"),
        min_area=of_pseudo_labels("min_area"),
        classes=PLAN.dataset.classes,
        submission_size=PLAN.dataset.submission_size,
        code=CODE["ensemble"],
    script:
        "../scripts/pseudo_labels.py"


rule train:
    """Train one network on all folds but one, or on all."""
    input:
        # No empty inputs: a new name alone would be another plan for every training
        unpack(of_run("further_inputs")),
        pixels="<results>/dataset/train/{size}.zarr",
        canvas=of_run("canvas_store"),
        folds="<results>/dataset/folds.tsv",
        weights=of_run("initial_weights"),
    output:
        best="<run_without_average>/best.safetensors",
        last="<run_without_average>/last.safetensors",
        history="<run_without_average>/history.tsv",
        run="<run_without_average>/run.json",
    log:
        "<run>/train.log",
    benchmark:
        "<run>/train.benchmark.tsv"
    group:
        of_run("group")
    conda:
        "../envs/workflow.yaml"
    threads: of_run("training_cores")
    resources:
        **ESTIMATES.of("train", of_run("training_work")),
        gpu=of_run("training_gpus"),
    params:
        recipe=of_run("training_recipe"),
        submission_size=of_run("loss_size"),
        seed=of_run("seed"),
        threads=PLAN.threads,
        code=CODE["training"],
    script:
        "../scripts/train.py"


use rule train as train_average with:
    output:
        best="<run_with_average>/best.safetensors",
        last="<run_with_average>/last.safetensors",
        average="<run_with_average>/average.safetensors",
        history="<run_with_average>/history.tsv",
        run="<run_with_average>/run.json",


rule probe_one:
    """Measure how large a batch of one network fits the device."""
    output:
        table="<results>/probe/{encoder}/{decoder}/{size}/{recipe}.tsv",
    log:
        "<logs>/probe/{encoder}/{decoder}/{size}/{recipe}.log",
    benchmark:
        "<logs>/probe/{encoder}/{decoder}/{size}/{recipe}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: PLAN.threads
    resources:
        **ESTIMATES.of("probe_one", of_run("training_work")),
        gpu=PLAN.gpus,
    params:
        recipe=of_run("training_recipe"),
        classes=len(PLAN.dataset.classes),
        pixels_size=of_run("pixels_size"),
        submission_size=of_run("loss_size"),
        threads=PLAN.threads,
        memory=PLAN.config.probe_memory,
        # Here, unlike elsewhere, where it runs is what is measured
        device=PLAN.config.device,
        cpu_instead=PLAN.cpu_instead(),
        code=CODE["training"],
    script:
        "../scripts/probe_one.py"


rule probe:
    """Measure, for every experiment, the largest batch that fits into memory and the seconds of a step."""
    input:
        tables=expand(
            "<results>/probe/{experiment}.tsv",
            experiment=of_sheet("experiment_paths"),
        ),
    output:
        table="<results>/report/probe.tsv",
    log:
        "<logs>/probe.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("probe", of_dataset("work")),
    script:
        "../scripts/probe.py"
