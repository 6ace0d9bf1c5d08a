# From satellite images and run-length labels to submission.csv. README.md is the manual, config/README.md the keys.
from snakemake.utils import min_version

min_version("9.17.1")


# The demo's, unless a config came: --configfile is merged into a configfile, and the demo's maps would leak into it.
if not {"dataset", "recipes", "ensembles"} & config.keys():

    # Not workflow.source_path, which copies the file: its place would differ from call to call
    configfile: str(workflow.current_basedir.join("config/config.yaml"))


include: "rules/common.smk"


# It speaks of this config: another workflow, which has this one as a module, describes its own report
if workflow.main_snakefile == str(HOME / "Snakefile"):

    report: "rules/captions/workflow.rst"


if PLAN.config.images is None:

    include: "rules/describe.smk"
    include: "rules/dataset.smk"
    include: "rules/train.smk"
    include: "rules/predict.smk"
    include: "rules/ensemble.smk"
    include: "rules/pictures.smk"
    include: "rules/provenance.smk"
    include: "rules/submission.smk"
    include: "rules/bundle.smk"
    include: "rules/labels.smk"
    include: "rules/studies.smk"
    include: "rules/report.smk"
    include: "rules/explorer.smk"
    include: "rules/verify.smk"
    include: "rules/status.smk"
    include: "rules/trackers.smk"

    rule all:
        """Make everything that the config asks for."""
        default_target: True
        input:
            everything,
        localrule: True
        params:
            megabytes=of_plan("megabytes"),
        message:
            f"everything: about {{params.megabytes}} MB of stores in {PLAN.folders['results']}"

else:

    include: "rules/images.smk"

    rule predictions:
        """Predict the images under the name of their folder."""
        default_target: True
        input:
            f"predictions/{NEW_IMAGES.name}/masks.csv",
        localrule: True


onstart:
    for folder in PLAN.sheet.folders:
        keep_finished(Path(workflow.pathvars.apply(folder)))
    if workflow.local_exec:
        on_devices = [
            job
            for job in workflow.dag.needrun_jobs()
            if "gpu" in job.rule.resources
        ]
        try:
            refuse_missing_devices(PLAN.config.device, on_devices)
        except ValueError as error:
            raise WorkflowError(str(error)) from None
    if PLAN.cpu_instead():
        logger.info(
            "device: auto, and this machine shows no CUDA device: jobs that run here use the CPU"
        )
    if random := notices.random_starts(PLAN):
        logger.info(
            f"smoke: no weights at hand for {', '.join(random)}: they start from random ones"
        )


# Behind all rules; of another workflow's targets that one's rules may make the files
if workflow.is_main_process and workflow.main_snakefile == str(HOME / "Snakefile"):
    try:
        refuse(
            target_problems(
                typed_targets(),
                workflow,
                PLAN.ensembles,
                PLAN.idle_rules,
                has_images=PLAN.config.images is not None,
            )
        )
    except ValueError as error:
        raise WorkflowError(str(error)) from None
    if workflow.output_settings.dryrun:
        BesideJobCounts(logger, hours_to_come)


onsuccess:
    for line in verdicts(RESULTS / "report", since=workflow.start_time.timestamp()):
        logger.info(line)
    page = RESULTS / "report/leaderboard.html"
    if page.is_file() and page.stat().st_mtime > workflow.start_time.timestamp():
        logger.info(leaderboard_summary(RESULTS / "report/leaderboard.tsv"))
        logger.info(
            next_commands(
                page,
                home=HOME,
                configfiles=[str(path) for path in workflow.overwrite_configfiles],
                typed=workflow.config_settings.config,
                smoke=PLAN.smoke,
                own_images=PLAN.config.dataset.source == "path",
                heads=bool(PLAN.heads.members),
            )
        )


onerror:
    for line in retries.killed_jobs(LOGS, RUNS, workflow.start_time.timestamp()):
        logger.error(line)
