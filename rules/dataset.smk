# Images and labels: make or fetch them, check them, split them, and store them at every size.

if PLAN.config.dataset.source == "demo":

    rule demo:
        """Draw the demo's images and labels."""
        output:
            directory(PLAN.dataset.raw),
        log:
            "<logs>/demo.log",
        benchmark:
            "<logs>/demo.benchmark.tsv"
        conda:
            "../envs/workflow.yaml"
        threads: 8
        resources:
            **ESTIMATES.of("demo", of_dataset("work")),
        params:
            images=PLAN.dataset.demo,
            seed=PLAN.seed,
            code=CODE["demo"],
        script:
            "../scripts/demo.py"


if PLAN.config.dataset.source == "kaggle":

    rule fetch:
        """Download the contest's images and labels with the kaggle CLI."""
        output:
            directory(PLAN.dataset.raw),
        log:
            "<logs>/fetch.log",
        benchmark:
            "<logs>/fetch.benchmark.tsv"
        localrule: True
        conda:
            "../envs/workflow.yaml"
        threads: 1
        resources:
            **ESTIMATES.of("fetch", of_dataset("work")),
        params:
            competition=PLAN.config.dataset.competition,
            root=PLAN.config.dataset.root,
        script:
            "../scripts/fetch.py"


if PLAN.config.dataset.source == "path" and PLAN.smoke:

    rule sample:
        """Link a few of one's own images, for a smoke run."""
        input:
            **excluded(PLAN.config.dataset.exclude),
            raw=ancient(PLAN.config.dataset.root),
        output:
            directory(PLAN.dataset.raw),
        log:
            "<logs>/sample.log",
        benchmark:
            "<logs>/sample.benchmark.tsv"
        localrule: True
        conda:
            "../envs/workflow.yaml"
        threads: 1
        resources:
            **ESTIMATES.of("sample", of_dataset("work")),
        params:
            **PLAN.dataset.layout_params,
            classes=PLAN.dataset.classes,
            images=of_dataset("counts"),
            contents=of_dataset("digests"),
            code=CODE["dataset"],
        script:
            "../scripts/sample.py"


rule check:
    """Check the images and the table of a split, all problems at once."""
    input:
        **excluded(of_images("exclude")),
        # What is in a folder of the user decides, not its times
        raw=PLAN.dataset.raw if PLAN.dataset.is_made else ancient(PLAN.dataset.raw),
    output:
        images="<results>/dataset/{split}.tsv",
    log:
        "<logs>/check/{split}.log",
    benchmark:
        "<logs>/check/{split}.benchmark.tsv"
    wildcard_constraints:
        split="|".join(PLAN.dataset.splits),
    priority: 100
    conda:
        "../envs/workflow.yaml"
    threads: 8
    resources:
        **ESTIMATES.of("check", of_images("work")),
    params:
        **PLAN.dataset.layout_params,
        classes=PLAN.dataset.classes,
        contents=of_images("contents"),
        code=CODE["dataset"],
    script:
        "../scripts/check.py"


rule folds:
    """Split the training images into folds."""
    input:
        # What is in the tables of the user decides, not their times
        **{name: ancient(path) for name, path in PLAN.dataset.split_tables.items()},
        images="<results>/dataset/train.tsv",
        weights=PLAN.dataset.fold_weights,
    output:
        **PLAN.dataset.split_facts,
        folds="<results>/dataset/folds.tsv",
    log:
        "<logs>/folds.log",
    benchmark:
        "<logs>/folds.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("folds", of_dataset("train_work")),
    params:
        **PLAN.dataset.split_params,
        classes=PLAN.dataset.classes,
        folds=PLAN.dataset.folds,
        seed=PLAN.seed,
        code=CODE["dataset"],
    script:
        "../scripts/folds.py"


rule pixels:
    """Store the images of a split at one size."""
    input:
        images="<results>/dataset/{split}.tsv",
        train=of_pixel_store("original_sizes"),
        raw=ancient(PLAN.dataset.raw),
    output:
        pixels=directory("<results>/dataset/{split}/{size}.zarr"),
    log:
        "<logs>/pixels/{split}-{size}.log",
    benchmark:
        "<logs>/pixels/{split}-{size}.benchmark.tsv"
    wildcard_constraints:
        split="|".join(PLAN.dataset.splits),
    priority: 100
    conda:
        "../envs/workflow.yaml"
    threads: 8
    resources:
        **ESTIMATES.of("pixels", of_pixel_store("work")),
        disk_mb=of_pixel_store("megabytes"),
    params:
        **PLAN.dataset.layout_params,
        size=of_pixel_store("stored_size"),
        classes=PLAN.dataset.classes,
        code=CODE["dataset"],
    message:
        "pixels of the {wildcards.split} images at {wildcards.size}: about {resources.disk_mb} MB on disk"
    script:
        "../scripts/pixels.py"


rule truth:
    """Store the labels on the submission grid."""
    input:
        images="<results>/dataset/train.tsv",
        raw=ancient(PLAN.dataset.raw),
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
        **ESTIMATES.of("truth", of_dataset("train_work")),
    params:
        **PLAN.dataset.layout_params,
        classes=PLAN.dataset.classes,
        submission_size=PLAN.dataset.submission_size,
        code=CODE["dataset"],
    script:
        "../scripts/truth.py"


rule black:
    """Store where the images of a split are black, on the submission grid."""
    input:
        images="<results>/dataset/{split}.tsv",
        raw=ancient(PLAN.dataset.raw),
    output:
        black=directory("<results>/dataset/black-{split}-{grey}.zarr"),
    log:
        "<logs>/black/{split}-{grey}.log",
    benchmark:
        "<logs>/black/{split}-{grey}.benchmark.tsv"
    wildcard_constraints:
        split="|".join(PLAN.dataset.splits),
    conda:
        "../envs/workflow.yaml"
    threads: 8
    resources:
        **ESTIMATES.of("black", of_black_store("work")),
        disk_mb=of_black_store("megabytes"),
    params:
        **PLAN.dataset.layout_params,
        submission_size=PLAN.dataset.submission_size,
        code=CODE["dataset"],
    script:
        "../scripts/black_swath.py"
