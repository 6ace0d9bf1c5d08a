"""Notices before anything runs: what is legal but probably not meant, and what is refused."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from cloudseg.config.fold_names import ALL
from cloudseg.config.messages import refuse
from cloudseg.config.recipe import Recipe
from cloudseg.errors import ConfigError
from cloudseg.training.data.augment import value_problems
from cloudseg.training.finished import FOLDER, differences, finished_record
from cloudseg.training.record import RunRecord
from cloudseg.workflow.code import CODE
from cloudseg.workflow.costs import Estimates, megabytes
from cloudseg.workflow.plan import Plan
from cloudseg.workflow.run import Run
from cloudseg.workflow.sheet import RunKey


def refuse_values(plan: Plan, marks: Path = Path(".snakemake/cloudseg")) -> None:
    """Refuse augmentations with values that albumentations refuses, which takes its import the first time.

    Raises
    ------
    ConfigError : with all of them.
    """
    recipes = {name: plan.config.recipes[name] for name in plan.sheet.recipes}
    refuse(
        [
            f"recipes.{name}.{problem}"
            for name, recipe in recipes.items()
            if recipe.augmentation != Recipe().augmentation
            for problem in value_problems(recipe.steps, marks)
        ]
    )


def refuse_targets(plan: Plan, targets: Iterable[str]) -> None:
    """Refuse to make the submission of a smoke run where one that is worth sending would lie.

    Raises
    ------
    ConfigError : with the file to ask for.
    """
    if plan.smoke and "submission.csv" in targets:
        own = plan.final_submissions["own"].replace("<results>", plan.folders["results"])
        raise ConfigError(
            f"submission.csv: a smoke run does not touch it, since it may hold one worth sending; ask for {own}, "
            "or leave out `smoke=true`"
        )


def random_starts(plan: Plan) -> list[str]:
    """Return the encoders that start from random weights in a smoke run because no file of theirs is at hand."""
    asked = {key.encoder for key in plan.sheet.keys if plan.config.recipes[key.recipe].start == "none"}
    starts = {encoder for (encoder, _), weights in plan.starts.items() if weights.kind == "none"}
    return sorted(starts - asked) if plan.smoke else []


def warnings(plan: Plan) -> list[str]:
    """Return what is legal in the config but probably not meant on this machine, a line each."""
    lines = []
    cores = os.cpu_count() or 1
    if plan.threads > cores:
        lines.append(f"threads: {plan.threads}, and this machine has {cores} cores: jobs that run here get slower")
    results = Path("results", plan.name)
    disk = next(folder for folder in (results, *results.parents) if folder.exists())
    free = shutil.disk_usage(disk).free / 1e6
    if plan.megabytes > free and plan.megabytes > free + _megabytes_in(results):
        lines.append(
            f"{results}: the stores take about {plan.megabytes} MB, and the disk has {free:.0f} MB free; "
            "run in a folder on a larger disk, or with fewer or smaller experiments"
        )
    if not plan.dataset.has_test:
        lines.append(f"{plan.config.dataset.root}: no test_images/, so all is made that needs none, and no submission")
    return lines + _unused_full(plan)


def _unused_full(plan: Plan) -> list[str]:
    """Say which trainings on all images nothing takes: they have no score of their own."""
    full = {key for key in plan.sheet.keys if key.fold == ALL}
    taken = {member.key for name in plan.submitted for member in plan.ensembles[name].all_members} if full else set()
    starts = {plan.run(**key.wildcards).start_run for key in full}
    unused = [" ".join(key.experiment) for key in sorted(full - taken - starts, key=RunKey.order)]
    if not unused:
        return []
    return [
        f"full: nothing takes the training on all images of {_some(unused)}; let an ensemble select `fold == 'all'`"
    ]


def too_large_trainings(plan: Plan, estimates: Estimates, limit: int) -> list[str]:
    """Say which trainings ask for more memory than there is.

    Parameters
    ----------
    limit : in MB.
    """
    lines = []
    cost = estimates.cost("train")
    first: dict[tuple[str, str], RunKey] = {}
    for key in plan.sheet.keys:
        first.setdefault((key.recipe, key.size), key)
    for (recipe, size), key in first.items():
        asked = megabytes(cost, plan.run(**key.wildcards).training_work)
        if asked > limit:
            lines.append(
                f"recipe {recipe} at {size}: a training asks for {asked} MB of memory, and there are "
                f"{limit}: it runs alone, and may be killed; lower `batch` or `micro_batch`"
            )
    return lines


def replaced_trainings(plan: Plan, results: str) -> list[str]:
    """Say which finished trainings are of another recipe than the config's now, and how they differ.

    Parameters
    ----------
    results : the folder that `<results>` stands for.
    """
    runs_by_difference: dict[str, list[str]] = {}
    for key in plan.sheet.keys:
        folder = Path(key.folder.replace("<results>", results))
        record = finished_record(folder)
        if record is None:
            continue
        if found := recipe_differences(plan, plan.run(**key.wildcards), record):
            name = folder.relative_to(Path(results, "runs")).as_posix()
            runs_by_difference.setdefault(", ".join(found), []).append(name)
    if not runs_by_difference:
        return []
    count = sum(map(len, runs_by_difference.values()))
    lines = [f"  {what}: {_some(runs)}" for what, runs in sorted(runs_by_difference.items())]
    return [
        f"{count} finished training(s) are of another recipe than the config's now; where one is needed, it is "
        f"trained anew. Its files stay in its folder `{FOLDER}` until the new ones are whole, and are used again "
        "without training when the edit is taken back:",
        *lines,
    ]


def recipe_differences(plan: Plan, run: Run, record: RunRecord) -> list[str]:
    """Say how a finished training differs from what the config asks for now, a text per key."""
    wanted = {"recipe": run.recipe.canonical(), "start": run.start}
    wanted |= {"seed": run.seed, "threads": plan.threads, "code": CODE["training"]}
    return differences(record, wanted)


def _some(names: list[str], most: int = 3) -> str:
    """Write names, and how many more there are than fit."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _megabytes_in(folder: Path) -> float:
    """Return how many MB the files in a folder take."""
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6
