# What a person looks at: the data at the beginning, curves, leaderboard and times at the end.
# The report shows categories in the order of their names, so these begin with a number.


rule dataset_sheet:
    """Show some training images with the outlines of their labels, and how often each class occurs."""
    input:
        **PLAN.dataset.split_facts,
        truth="<results>/dataset/truth.zarr",
        images="<results>/dataset/train.tsv",
        raw=ancient(PLAN.dataset.raw),
    output:
        page=report(
            "<results>/report/dataset.html",
            caption="captions/dataset.rst",
            category="1 Data",
            labels={"page": "Images and labels"},
        ),
    log:
        "<logs>/dataset_sheet.log",
    benchmark:
        "<logs>/dataset_sheet.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("dataset_sheet", of_dataset("work")),
    params:
        **PLAN.dataset.layout_params,
        code=CODE["report"],
    script:
        "../scripts/dataset_sheet.py"


rule augmented:
    """Show what the augmentation of a recipe does to training images, epoch by epoch."""
    input:
        pixels=of_recipe("store"),
    output:
        page=report(
            "<results>/report/augmented/{recipe}.html",
            caption="captions/augmented.rst",
            category="1 Data",
            labels={"page": "Augmentation", "recipe": "{recipe}"},
        ),
    log:
        "<logs>/augmented/{recipe}.log",
    benchmark:
        "<logs>/augmented/{recipe}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("augmented", of_dataset("work")),
    params:
        recipe=of_recipe("augmentation"),
        seed=PLAN.seed,
        code=CODE["report"],
    script:
        "../scripts/augmented.py"


rule leaderboard:
    """Rank experiments and ensembles by their Dice out of fold."""
    input:
        scores=expand("<ensembles>/{name}/scores.tsv", name=of_plan("ensembles")),
        images=expand("<ensembles>/{name}/images.tsv", name=of_plan("submitted")),
        comparisons=expand(
            "<ensembles>/{name}/comparison.json", name=of_plan("submitted")
        ),
        decisions=expand("<ensembles>/{name}/decision.yaml", name=of_plan("ensembles")),
        runs=expand("{run}/run.json", run=of_sheet("folders")),
        histories=expand("{run}/history.tsv", run=of_sheet("folders")),
        truth="<results>/dataset/truth.zarr",
        folds="<results>/dataset/folds.tsv",
    output:
        table="<results>/report/leaderboard.tsv",
        page="<results>/report/leaderboard.md",
        html=report(
            "<results>/report/leaderboard.html",
            caption="captions/leaderboard.rst",
            category="3 Ensembles",
            labels={"page": "Leaderboard"},
        ),
        charts=directory("<results>/report/leaderboard"),
        diary="<results>/report/diary.md",
    log:
        "<logs>/leaderboard.log",
    benchmark:
        "<logs>/leaderboard.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("leaderboard", of_leaderboard("work")),
    params:
        **PLAN.leaderboard.left_out,
        classes=PLAN.dataset.classes,
        names=list(PLAN.ensembles),
        experiments=of_leaderboard("experiments"),
        ensembles=of_leaderboard("ensembles"),
        posted=PLAN.public_scores,
        class_rates=PLAN.dataset.class_rates,
        code=CODE["report"],
    script:
        "../scripts/leaderboard.py"


if PLAN.heads.members:

    rule classifiers:
        """Measure how well classification heads say whether a class is there, beside planes of the same networks."""
        input:
            heads=of_heads("values"),
            planes=of_heads("planes"),
            truth="<results>/dataset/truth.zarr",
        output:
            table="<results>/report/classifiers.tsv",
            page=report(
                "<results>/report/classifiers.html",
                caption="captions/classifiers.rst",
                category="3 Ensembles",
                labels={"page": "Classification heads"},
            ),
            chart="<results>/report/classifiers.svg",
        log:
            "<logs>/classifiers.log",
        benchmark:
            "<logs>/classifiers.benchmark.tsv"
        conda:
            "../envs/workflow.yaml"
        threads: 2
        resources:
            **ESTIMATES.of("classifiers", of_heads("work")),
        params:
            rows=of_heads("rows"),
            code=CODE["report"],
        script:
            "../scripts/classifiers.py"


rule curves:
    """Draw the learning curves of the best experiments, to choose from on one page and as SVG."""
    input:
        leaderboard="<results>/report/leaderboard.tsv",
        runs=expand("{run}/run.json", run=of_sheet("folders")),
        histories=expand("{run}/history.tsv", run=of_sheet("folders")),
    output:
        page=report(
            "<results>/report/curves.html",
            caption="captions/curves.rst",
            category="2 Training",
            labels={"page": "Learning curves of all"},
        ),
        charts=report(
            directory("<results>/report/curves"),
            patterns=["{encoder}/{decoder}/{size}/{recipe}.svg"],
            caption="captions/curves.rst",
            category="2 Training",
            labels={
                "page": "Learning curves",
                "encoder": "{encoder}",
                "decoder": "{decoder}",
                "size": "{size}",
                "recipe": "{recipe}",
            },
        ),
    log:
        "<logs>/curves.log",
    benchmark:
        "<logs>/curves.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("curves", of_leaderboard("work")),
    params:
        code=CODE["report"],
    script:
        "../scripts/curves.py"


rule job_times:
    """Add up time and memory by rule, and set the memory against what jobs asked for."""
    input:
        # What is measured is in the benchmark files; these are made last
        leaderboard="<results>/report/leaderboard.tsv",
        submissions=expand("<ensembles>/{name}/submission.csv", name=of_plan("tested")),
    output:
        table="<results>/report/time.tsv",
        page=report(
            "<results>/report/time.html",
            caption="captions/time.rst",
            category="6 Time and memory",
            labels={"page": "Time and memory of rules and jobs"},
        ),
        chart="<results>/report/time.svg",
    log:
        "<logs>/job_times.log",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("job_times", of_leaderboard("work")),
    params:
        logs=str(LOGS),
        runs=str(RUNS),
        code=CODE["report"],
    script:
        "../scripts/job_times.py"
