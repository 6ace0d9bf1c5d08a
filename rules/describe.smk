# A folder that nobody has described yet: what is in it, and the config that fits.


rule describe:
    """Say what is in a folder of images and labels (folder=FOLDER), and print the config that fits it."""
    log:
        "<logs>/describe.log",
    localrule: True
    conda:
        "../envs/workflow.yaml"
    threads: 1
    resources:
        **ESTIMATES.of("describe", of_dataset("work")),
    params:
        folder=PLAN.config.folder or PLAN.config.dataset.root,
    script:
        "../scripts/describe_folder.py"
