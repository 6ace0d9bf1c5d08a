# Images and labels: make or fetch them, check them, split them, and store them at every size.


if PLAN.settings["dataset"]["source"] == "demo":

    rule demo:
        output:
            directory(PLAN.raw),
        log:
            "<logs>/demo.log",
        benchmark:
            "<logs>/demo.benchmark.tsv"
        conda:
            "../envs/workflow.yaml"
        threads: 8
        resources:
            mem_mb=ESTIMATES.memory("demo"),
            runtime=ESTIMATES.minutes("demo"),
        params:
            images=PLAN.demo,
            seed=PLAN.seed,
            code=CODE["demo"],
        script:
            "../scripts/demo.py"


if PLAN.settings["dataset"]["source"] == "kaggle":

    rule fetch:
        output:
            directory(PLAN.raw),
        log:
            "<logs>/fetch.log",
        localrule: True
        conda:
            "../envs/workflow.yaml"
        threads: 1
        resources:
            mem_mb=ESTIMATES.memory("fetch"),
            runtime=ESTIMATES.minutes("fetch"),
        params:
            competition=PLAN.settings["dataset"]["competition"],
            root=PLAN.settings["dataset"]["root"],
        script:
            "../scripts/fetch.py"


if PLAN.settings["dataset"]["source"] == "path" and PLAN.smoke:

    rule sample:
        input:
            raw=ancient(PLAN.settings["dataset"]["root"]),
        output:
            directory(PLAN.raw),
        log:
            "<logs>/sample.log",
        localrule: True
        conda:
            "../envs/workflow.yaml"
        threads: 1
        resources:
            mem_mb=ESTIMATES.memory("sample"),
            runtime=ESTIMATES.minutes("sample"),
        params:
            classes=PLAN.classes,
            images=PLAN.images,
            contents=PLAN.contents_of_both,
            code=CODE["dataset"],
        script:
            "../scripts/sample.py"


rule check:
    input:
        # What is in a folder of the user decides, not its times
        raw=PLAN.raw if PLAN.makes_images else ancient(PLAN.raw),
    output:
        images="<results>/dataset/{split}.tsv",
    log:
        "<logs>/check/{split}.log",
    benchmark:
        "<logs>/check/{split}.benchmark.tsv"
    wildcard_constraints:
        split="train|test",
    priority: 100
    conda:
        "../envs/workflow.yaml"
    threads: 8
    resources:
        mem_mb=ESTIMATES.memory("check"),
        runtime=ESTIMATES.minutes("check"),
    params:
        classes=PLAN.classes,
        contents=PLAN.contents,
        code=CODE["dataset"],
    script:
        "../scripts/check.py"


rule folds:
    input:
        images="<results>/dataset/train.tsv",
        weights=PLAN.fold_weights,
    output:
        folds="<results>/dataset/folds.tsv",
    log:
        "<logs>/folds.log",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=ESTIMATES.memory("folds"),
        runtime=ESTIMATES.minutes("folds"),
    params:
        classes=PLAN.classes,
        folds=PLAN.folds,
        seed=PLAN.seed,
        code=CODE["dataset"],
    script:
        "../scripts/folds.py"


rule pixels:
    input:
        images="<results>/dataset/{split}.tsv",
        train=PLAN.original_sizes,
        raw=ancient(PLAN.raw),
    output:
        pixels=directory("<results>/dataset/{split}/{size}.zarr"),
    log:
        "<logs>/pixels/{split}-{size}.log",
    benchmark:
        "<logs>/pixels/{split}-{size}.benchmark.tsv"
    wildcard_constraints:
        split="train|test",
    priority: 100
    conda:
        "../envs/workflow.yaml"
    threads: 8
    resources:
        mem_mb=ESTIMATES.memory("pixels"),
        runtime=ESTIMATES.minutes("pixels"),
        disk_mb=PLAN.pixel_megabytes,
    params:
        size=PLAN.stored_size,
        classes=PLAN.classes,
        code=CODE["dataset"],
    message:
        "pixels of the {wildcards.split} images at {wildcards.size}: about {resources.disk_mb} MB on disk"
    script:
        "../scripts/pixels.py"


rule truth:
    input:
        images="<results>/dataset/train.tsv",
        raw=ancient(PLAN.raw),
    output:
        truth=directory("<results>/dataset/truth.zarr"),
    log:
        "<logs>/truth.log",
    benchmark:
        "<logs>/truth.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 8
    resources:
        mem_mb=ESTIMATES.memory("truth"),
        runtime=ESTIMATES.minutes("truth"),
    params:
        classes=PLAN.classes,
        submission_size=PLAN.submission_size,
        code=CODE["dataset"],
    script:
        "../scripts/truth.py"
