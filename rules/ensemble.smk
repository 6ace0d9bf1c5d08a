# Ensembles: blend the stores, find out how the blend becomes masks, score it, and write submissions.


rule blend:
    input:
        stores=PLAN.blend_stores,
        folds="<results>/dataset/folds.tsv",
    output:
        blend=directory("<ensembles>/{ensemble}/{split}.zarr"),
    log:
        "<logs>/blend/{ensemble}-{split}.log",
    benchmark:
        "<logs>/blend/{ensemble}-{split}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 2
    resources:
        mem_mb=ESTIMATES.memory("blend"),
        runtime=ESTIMATES.minutes("blend"),
        disk_mb=PLAN.blend_megabytes,
    params:
        members=PLAN.blend_members,
        sharpen=PLAN.sharpen,
        allow_squeezed=PLAN.allow_squeezed,
        folds=PLAN.ensemble_folds,
        classes=PLAN.classes,
        submission_size=PLAN.submission_size,
        code=CODE["ensemble"],
    message:
        "blend {wildcards.ensemble} {wildcards.split}: about {resources.disk_mb} MB on disk"
    script:
        "../scripts/blend.py"


rule surface:
    input:
        blend="<ensembles>/{ensemble}/valid.zarr",
        truth="<results>/dataset/truth.zarr",
    output:
        surface=directory("<ensembles>/{ensemble}/surface.zarr"),
    log:
        "<logs>/surface/{ensemble}.log",
    benchmark:
        "<logs>/surface/{ensemble}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 2
    resources:
        mem_mb=ESTIMATES.memory("surface"),
        runtime=ESTIMATES.minutes("surface"),
    params:
        folds=PLAN.ensemble_folds,
        min_sizes=PLAN.min_sizes,
        code=CODE["ensemble"],
    script:
        "../scripts/surface.py"


rule decide:
    input:
        surface="<ensembles>/{ensemble}/surface.zarr",
        blend="<ensembles>/{ensemble}/valid.zarr",
        truth="<results>/dataset/truth.zarr",
    output:
        decision="<ensembles>/{ensemble}/decision.yaml",
        scores="<ensembles>/{ensemble}/scores.tsv",
        images="<ensembles>/{ensemble}/images.tsv",
        parts="<ensembles>/{ensemble}/parts.tsv",
    log:
        "<logs>/decide/{ensemble}.log",
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=ESTIMATES.memory("decide"),
        runtime=ESTIMATES.minutes("decide"),
    params:
        classes=PLAN.classes,
        decision=PLAN.decision,
        class_rates=PLAN.settings["class_rates"],
        code=CODE["ensemble"],
    script:
        "../scripts/decide.py"


rule compare:
    input:
        images="<ensembles>/{ensemble}/images.tsv",
        decision="<ensembles>/{ensemble}/decision.yaml",
        members=PLAN.member_blends,
        truth="<results>/dataset/truth.zarr",
    output:
        comparison="<ensembles>/{ensemble}/comparison.json",
    log:
        "<logs>/compare/{ensemble}.log",
    conda:
        "../envs/workflow.yaml"
    threads: 2
    resources:
        mem_mb=ESTIMATES.memory("compare"),
        runtime=ESTIMATES.minutes("compare"),
    params:
        members=PLAN.member_names,
        folds=PLAN.ensemble_folds,
        classes=PLAN.classes,
        decision=PLAN.member_decision,
        seed=PLAN.seed,
        code=CODE["ensemble"],
    script:
        "../scripts/compare.py"


rule submit:
    input:
        blend="<ensembles>/{ensemble}/test.zarr",
        decision="<ensembles>/{ensemble}/decision.yaml",
        images="<results>/dataset/test.tsv",
        raw=ancient(PLAN.raw),
    output:
        submission="<ensembles>/{ensemble}/submission.csv",
    log:
        "<logs>/submit/{ensemble}.log",
    benchmark:
        "<logs>/submit/{ensemble}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 2
    resources:
        mem_mb=ESTIMATES.memory("submit"),
        runtime=ESTIMATES.minutes("submit"),
    params:
        classes=PLAN.classes,
        code=CODE["ensemble"],
    script:
        "../scripts/submit.py"


rule submission:
    input:
        submission=f"<ensembles>/{PLAN.settings['submission']}/submission.csv",
        decision=f"<ensembles>/{PLAN.settings['submission']}/decision.yaml",
    # update: what lies there is looked at before it is replaced, since it may be another config's or the user's own.
    output:
        **{name: update(path) for name, path in PLAN.final_submissions.items()},
    log:
        "<logs>/submission.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        mem_mb=ESTIMATES.memory("submission"),
        runtime=ESTIMATES.minutes("submission"),
    params:
        ensemble=PLAN.settings["submission"],
        config=PLAN.name,
    script:
        "../scripts/submission.py"
