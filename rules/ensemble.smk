# Ensembles: blend the stores, find out how the blend becomes masks, score it, and write submissions.


rule blend:
    """Average the probabilities of an ensemble's members."""
    input:
        stores=of_blend("stores"),
        voters=of_blend("voters"),
        selection=of_blend("selection"),
        black=of_blend("black"),
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
        **ESTIMATES.of("blend", of_blend("work")),
        disk_mb=of_blend("megabytes"),
    params:
        members=of_blend("members"),
        sharpen=of_blend("sharpen"),
        allow_squeezed=of_blend("allow_squeezed"),
        folds=of_blend("folds"),
        classes=PLAN.dataset.classes,
        submission_size=PLAN.dataset.submission_size,
        code=CODE["ensemble"],
    message:
        "blend {wildcards.ensemble} {wildcards.split}: about {resources.disk_mb} MB on disk"
    script:
        "../scripts/blend.py"


rule whether:
    """Average what the members say that tell whether a class is there: of each plane, a histogram is kept."""
    input:
        unpack(of_whether("further_inputs")),
        stores=of_whether("stores"),
        black=of_whether("black"),
        folds="<results>/dataset/folds.tsv",
    output:
        presence=directory("<ensembles>/{ensemble}/{split}-whether.zarr"),
    log:
        "<logs>/whether/{ensemble}-{split}.log",
    benchmark:
        "<logs>/whether/{ensemble}-{split}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 2
    resources:
        **ESTIMATES.of("whether", of_whether("work")),
    params:
        members=of_whether("members"),
        sharpen=of_whether("sharpen"),
        allow_squeezed=of_whether("allow_squeezed"),
        folds=of_whether("folds"),
        classes=PLAN.dataset.classes,
        submission_size=PLAN.dataset.submission_size,
        code=CODE["ensemble"],
    script:
        "../scripts/whether.py"


rule search:
    """Choose members and their weights by what they say out of fold, without training anything."""
    input:
        stores=of_valid_blend("stores"),
        truth="<results>/dataset/truth.zarr",
    output:
        selection="<ensembles>/{ensemble}/selection.yaml",
        path="<ensembles>/{ensemble}/selection.tsv",
        page=report(
            "<results>/report/search/{ensemble}.html",
            category="3 Ensembles",
            labels={"page": "Search", "ensemble": "{ensemble}"},
            caption="captions/search.rst",
        ),
        figure="<results>/report/search/{ensemble}.svg",
    log:
        "<logs>/search/{ensemble}.log",
    benchmark:
        "<logs>/search/{ensemble}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 2
    resources:
        **ESTIMATES.of("search", of_valid_blend("work")),
    params:
        members=of_valid_blend("members"),
        search=of_ensemble("search_settings"),
        code=CODE["ensemble"],
    script:
        "../scripts/search.py"


rule surface:
    """Count the Dice of every threshold and minimum size, out of fold."""
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
        **ESTIMATES.of("surface", of_dataset("train_work")),
    params:
        folds=of_ensemble("valid_folds"),
        min_sizes=of_ensemble("min_sizes"),
        code=CODE["ensemble"],
    script:
        "../scripts/surface.py"


rule decide:
    """Choose thresholds and minimum sizes, and score them out of fold."""
    input:
        surface="<ensembles>/{ensemble}/surface.zarr",
        blend="<ensembles>/{ensemble}/valid.zarr",
        truth="<results>/dataset/truth.zarr",
        presence=of_ensemble("presence"),
        selection=of_ensemble("selection"),
    output:
        decision="<ensembles>/{ensemble}/decision.yaml",
        scores="<ensembles>/{ensemble}/scores.tsv",
        images="<ensembles>/{ensemble}/images.tsv",
        parts="<ensembles>/{ensemble}/parts.tsv",
    log:
        "<logs>/decide/{ensemble}.log",
    benchmark:
        "<logs>/decide/{ensemble}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("decide", of_ensemble("decision_work")),
    params:
        classes=PLAN.dataset.classes,
        decision=of_ensemble("decision_rule"),
        class_rates=PLAN.dataset.class_rates,
        code=CODE["ensemble"],
    script:
        "../scripts/decide.py"


rule compare:
    """Compare an ensemble with its members, decided likewise."""
    input:
        images="<ensembles>/{ensemble}/images.tsv",
        decision="<ensembles>/{ensemble}/decision.yaml",
        members=of_ensemble("compared_blends"),
        voters=of_ensemble("compared_voters"),
        truth="<results>/dataset/truth.zarr",
    output:
        comparison="<ensembles>/{ensemble}/comparison.json",
    log:
        "<logs>/compare/{ensemble}.log",
    benchmark:
        "<logs>/compare/{ensemble}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 2
    resources:
        **ESTIMATES.of("compare", of_ensemble("comparison_work")),
    params:
        members=of_ensemble("compared_names"),
        folds=of_ensemble("valid_folds"),
        classes=PLAN.dataset.classes,
        decision=of_ensemble("member_decision_rule"),
        seed=PLAN.seed,
        code=CODE["ensemble"],
    script:
        "../scripts/compare.py"


rule submit:
    """Write the submission of an ensemble."""
    input:
        blend="<ensembles>/{ensemble}/test.zarr",
        decision="<ensembles>/{ensemble}/decision.yaml",
        presence=of_ensemble("test_presence"),
        images="<results>/dataset/test.tsv",
        raw=ancient(PLAN.dataset.raw),
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
        **ESTIMATES.of("submit", of_dataset("test_work")),
    params:
        **PLAN.dataset.layout_params,
        classes=PLAN.dataset.classes,
        code=CODE["ensemble"],
    script:
        "../scripts/submit.py"


rule submission:
    """Make submission.csv, of the ensemble that the config names."""
    input:
        submission=submitted,
        decision=f"<ensembles>/{PLAN.config.submission}/decision.yaml",
        provenance=f"<ensembles>/{PLAN.config.submission}/provenance.json",
    # update: what lies there is looked at before it is replaced, since it may be another config's or the user's own.
    output:
        **{name: update(path) for name, path in PLAN.final_submissions.items()},
    log:
        "<logs>/submission.log",
    benchmark:
        "<logs>/submission.benchmark.tsv"
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("submission", of_dataset("test_work")),
    params:
        ensemble=PLAN.config.submission,
        config=PLAN.name,
    script:
        "../scripts/submission.py"
