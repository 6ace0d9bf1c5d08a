# What the plan makes, in full, and whether it is still what its jobs have made.
from cloudseg.commands import remember_words

# So that a message of a job can end with a command that fits this call.
remember_words(
    workflow.config_settings.configfiles, workflow.config_settings.config_args
)


def everything(wildcards):
    """Return every output of the plan: `all` asks for what lies in between, too, so that what is lost is made again."""
    return [
        path
        for rule, jobs in PLAN.jobs.items()
        for job in jobs
        for path in expand(getattr(rules, rule).output, **job)
    ]


def verified(wildcards):
    """Return the outputs in the results: the submission in the working directory may be edited, or another config's."""
    root = PLAN.final_submissions.get("root")
    return [path for path in everything(wildcards) if path != root]


rule verify:
    log:
        "<logs>/verify.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 8
    resources:
        mem_mb=ESTIMATES.memory("verify"),
        runtime=ESTIMATES.minutes("verify"),
    params:
        files=verified,
        consent=PLAN.settings["remove"],
        results=lambda wildcards: str(Path(expand(rules.folds.output)[0]).parents[1]),
    script:
        "../scripts/verify.py"
