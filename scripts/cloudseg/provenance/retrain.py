"""Make a submission again from the images: the whole workflow, with the config of then, in a folder of its own.

A call of Snakemake within a job would wait for ever for the lock of its own working directory, so this one has another.
Finished trainings whose checkpoints are still the ones that predicted are copied there; the workflow takes them where
the images, the recipe and the code are still the same, and trains the others.
"""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cloudseg.config.fold_names import experiment_words, parse_fold_name
from cloudseg.config.sheet import KEY
from cloudseg.dataset.tables import table_digests
from cloudseg.errors import ConfigError, MachineError
from cloudseg.provenance.find import Known
from cloudseg.provenance.here import Lacking, trained_otherwise
from cloudseg.provenance.record import Provenance
from cloudseg.runtime.processes import end_with_parent
from cloudseg.storage import files
from cloudseg.training.finished import FOLDER

CONFIG, SHEET = "config.yaml", "experiments.tsv"
TABLES = ("exclude", "table", "file")  # keys of `dataset` and `folds` that name files of the user's


def retrain(
    known: Known,
    lacking: Lacking,
    out: str | Path,
    *,
    scratch: Path,
    home: Path,
    config: Mapping[str, Any],
    root: str,
    words: Sequence[str],
) -> list[str]:
    """Run the workflow for the submission of an ensemble, and copy what it made.

    It goes on where a call before was stopped. Returned is what was trained otherwise than then, in words.

    Parameters
    ----------
    known : its provenance and results.
    lacking : the runs whose checkpoints are not there any more.
    out : the file to write.
    scratch : the working directory of the workflow, which nobody else uses: what it had locked when it was killed does
        not count.
    home : the folder of the Snakefile.
    config : the config here, which says where files of the user's lie.
    root : the folder of the images here.
    words : more words for Snakemake: cores and resources.

    Raises
    ------
    ConfigError : if files of the user's are not known here.
    MachineError : if the workflow fails; its own words are in the log.
    """
    provenance = known.provenance
    write_config(scratch, provenance, config, root)
    _copy_finished(known, lacking, scratch)
    made = Path("results", provenance.results_name, "ensembles", provenance.ensemble, "submission.csv")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(home / "Snakefile"), "--directory", str(scratch)]
    command += ["--workflow-profile", str(home / "profiles/default"), "--configfile", str(scratch / CONFIG), *words]
    outer = ("SNAKEMAKE_", "CLOUDSEG_")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(outer)}
    parent = os.getpid()
    done = subprocess.run(  # noqa: S603
        [*command, "--rerun-incomplete", "--nolock", "--", str(made)],
        env=environment,
        stdout=sys.stdout,
        stderr=subprocess.STDOUT,
        check=False,
        preexec_fn=lambda: end_with_parent(parent),
    )
    if done.returncode:
        raise MachineError(f"the workflow in {scratch} failed, see above; the same command goes on from there")
    files.write_text(out, files.read_text(scratch / made))
    return trained_otherwise(provenance, scratch / "results" / provenance.results_name)


def write_config(scratch: Path, provenance: Provenance, config: Mapping[str, Any], root: str) -> None:
    """Write the config and the sheet of then, with what this ensemble needs alone, and the places of here."""
    # Where files lie is said here, never by the record of a file that came from elsewhere
    then = {key: value for key, value in provenance.config.items() if key != "pathvars"}
    used = {row["recipe"] for row in provenance.sheet}
    recipes = {name: _at_hand(name, recipe, config) for name, recipe in then["recipes"].items() if name in used}
    dataset = _tables_at_hand("dataset", then["dataset"], config)
    if dataset["source"] != "demo":
        dataset["root"] = str(Path(root).resolve())
    folds = _tables_at_hand("folds", then.get("folds", {}), config)
    _refuse_other_tables(provenance.images.tables or {}, dataset, folds)
    plain = then | {
        "dataset": dataset,
        "folds": folds,
        "recipes": recipes,
        "ensembles": {name: then["ensembles"][name] for name in _ensembles(provenance.ensemble, recipes)},
        "submission": provenance.ensemble,
        "experiments": SHEET,
        "smoke": provenance.smoke,
        "device": config.get("device", "auto"),
    }
    files.write_text(scratch / CONFIG, yaml.safe_dump(plain, sort_keys=False))
    with files.atomic(scratch / SHEET) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        columns = list(dict.fromkeys(column for row in provenance.sheet for column in row))
        table = csv.DictWriter(
            file, columns, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None
        )
        table.writeheader()
        table.writerows(provenance.sheet)


def _ensembles(name: str, recipes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the names of an ensemble and of those that label test images for the recipes that it needs."""
    teachers = [recipe["pseudo"]["ensemble"] for recipe in recipes.values() if recipe.get("pseudo")]
    return list(dict.fromkeys([name, *teachers]))


def _at_hand(name: str, recipe: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe whose file of initial weights, if it has one, is where the config here has it."""
    kind, _, start = recipe.get("start", "").partition(":")
    if kind != "file":
        return dict(recipe)
    here = config.get("recipes", {}).get(name, {}).get("start", "")
    path = here.removeprefix("file:") if here.startswith("file:") else ""
    return {**recipe, "start": f"file:{_place(f'recipes.{name}.start', start, path)}"}


def _tables_at_hand(key: str, section: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a section whose tables and lists of images, if it has any, are where the config here has them."""
    here = config.get(key, {})
    places = {name: _place(f"{key}.{name}", section[name], here.get(name) or "") for name in TABLES if name in section}
    return {**section, **places}


def _refuse_other_tables(then: Mapping[str, str], dataset: Mapping[str, Any], folds: Mapping[str, Any]) -> None:
    """Raise where a table of the user's says something else than it did then."""
    if not then:
        return
    now = table_digests(dataset, folds)
    for name, digest in then.items():
        if now.get(name) != digest:
            key, section = ("dataset", dataset) if name == "exclude" else ("folds", folds)
            raise ConfigError(
                f"{key}.{name}: {section.get(name)} says something else than it did when the submission was made "
                f"(digest {digest[:12]}); put the file of then there"
            )


def _place(key: str, then: str, here: str) -> str:
    """Return the place of a file of the user's, which has the same name here as it had then."""
    if not here or Path(here).name != Path(then).name:
        raise ConfigError(
            f"{key}: the submission was made with {then}, and the config here does not say where that file is; give "
            "the config that it was made with (--configfile)"
        )
    return str(Path(here).resolve())


def _copy_finished(known: Known, lacking: Lacking, scratch: Path) -> None:
    for run in _runs_of(known):
        source = known.results / "runs" / run / FOLDER
        target = scratch / "results" / known.provenance.results_name / "runs" / run / FOLDER
        if run not in lacking.to_train and source.is_dir() and not target.exists():
            part = target.with_name(f".{FOLDER}.part")
            shutil.rmtree(part, ignore_errors=True)
            shutil.copytree(source, part)
            part.rename(target)


def _runs_of(known: Known) -> list[str]:
    """Return the runs that a submission needs: its own, those that these go back to, and all that it chose from.

    The candidates of a search, and what those go back to, are looked for on the disk, since no text of a strange record
    may lead out of the results.
    """
    provenance, runs = known.provenance, known.results / "runs"
    own = [training.run for training in provenance.all_trainings]
    if provenance.search is None:
        return own
    experiments = {experiment_words(*(row.get(key) for key in KEY), row.get("seed")) for row in provenance.sheet}
    found = [path.relative_to(runs) for path in sorted(runs.glob("*/*/*/*/fold*"))]
    return [*own, *(run.as_posix() for run in found if _experiment_of(run) in experiments)]


def _experiment_of(run: Path) -> tuple[str, ...] | None:
    """Return the experiment that the folder of a run belongs to; None for one that no run has."""
    try:
        _, seed = parse_fold_name(run.name.removeprefix("fold"))
    except ValueError:
        return None
    return experiment_words(*run.parts[:-1], seed)
