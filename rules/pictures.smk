# What a person looks at of each ensemble: its masks, and why they are cut where they are.


rule masks:
    """Show an ensemble's masks over the truth, and on test images as they are submitted."""
    input:
        valid="<ensembles>/{ensemble}/valid.zarr",
        test=of_ensemble("test_blend"),
        decision="<ensembles>/{ensemble}/decision.yaml",
        scores="<ensembles>/{ensemble}/images.tsv",
        comparison="<ensembles>/{ensemble}/comparison.json",
        presence=of_ensemble("presence"),
        test_presence=of_ensemble("test_presence"),
        submission=of_ensemble("submission"),
        members=of_ensemble("member_blends"),
        member_decisions=of_ensemble("member_decisions"),
        truth="<results>/dataset/truth.zarr",
        # The images themselves: their digests stand in the tables, which are made anew when one changes
        train="<results>/dataset/train.tsv",
        images=of_dataset("test_images"),
        raw=ancient(PLAN.dataset.raw),
    output:
        page=report(
            "<results>/report/masks/{ensemble}.html",
            category="3 Ensembles",
            labels={"page": "Masks", "ensemble": "{ensemble}"},
            caption="captions/masks.rst",
        ),
        sheet="<results>/report/masks/{ensemble}.svg",
    log:
        "<logs>/masks/{ensemble}.log",
    benchmark:
        "<logs>/masks/{ensemble}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("masks", of_dataset("test_work")),
    params:
        **PLAN.dataset.layout_params,
        members=of_ensemble("member_names"),
        classes=page_params(PLAN.dataset.classes),
        seed=PLAN.seed,
        code=CODE["report"],
    script:
        "../scripts/masks.py"


rule decision:
    """Show why an ensemble's masks are cut where they are, and what each member adds."""
    input:
        surface="<ensembles>/{ensemble}/surface.zarr",
        blend="<ensembles>/{ensemble}/valid.zarr",
        decision="<ensembles>/{ensemble}/decision.yaml",
        scores="<ensembles>/{ensemble}/images.tsv",
        presence=of_ensemble("presence"),
        selection=of_ensemble("selection"),
        voters=of_ensemble("voters"),
        black=of_ensemble("black"),
        members=of_ensemble("member_blends"),
        truth="<results>/dataset/truth.zarr",
    output:
        page=report(
            "<results>/report/decision/{ensemble}.html",
            category="3 Ensembles",
            labels={"page": "Decision", "ensemble": "{ensemble}"},
            caption="captions/decision.rst",
        ),
        surface="<results>/report/decision/{ensemble}-surface.svg",
        reliability="<results>/report/decision/{ensemble}-reliability.svg",
        presence="<results>/report/decision/{ensemble}-presence.svg",
        members="<results>/report/decision/{ensemble}-members.svg",
    log:
        "<logs>/decision/{ensemble}.log",
    benchmark:
        "<logs>/decision/{ensemble}.benchmark.tsv"
    conda:
        "../envs/workflow.yaml"
    threads: 2
    resources:
        **ESTIMATES.of("decision", of_ensemble("comparison_work")),
    params:
        member_names=of_ensemble("member_names"),
        members=of_ensemble("blended_members"),
        decision=of_ensemble("decision_rule"),
        member_decision=of_ensemble("member_decision_rule"),
        classes=page_params(PLAN.dataset.classes),
        seed=PLAN.seed,
        code=CODE["report"],
    script:
        "../scripts/decision.py"
