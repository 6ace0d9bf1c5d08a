"""Run the jobs of the config in `own/` and print digests of what they make, as JSON: python jobs.py < plans.json.

The jobs are those that a dry run lists, and each is the script that its rule names, in this process and with an object
like that of Snakemake: no name of cloudseg stands here. What a network computes differs from machine to machine, so
that one epoch is trained for its record alone; then checkpoints and probabilities get fixed numbers. All that comes
before a network, and all that comes after it, is compared whole.
"""

import ast
import contextlib
import hashlib
import json
import os
import pathlib
import re
import runpy
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from inputs import fix_probabilities, fix_safetensors
from snakemake.iocontainers import Namedlist

REPO = Path(__file__).parents[2]
LONGEST = 1000
MEASURED = ("seconds", "images_per_second", "devices", "versions", "commit", "sha256", "processor")

Found = dict[str, str]


def main() -> None:
    plans = json.load(sys.stdin)
    sys.path.insert(0, str(REPO / "scripts"))
    sys.argv = ["jobs.py"]
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # where a network computes is among the attributes of what it predicts
    found: Found = {}
    import torch

    torch.cpu.get_capabilities = dict  # `precision: auto` is float32 then, on every processor
    with contextlib.redirect_stdout(sys.stderr):
        own = plans["own"]
        run_own(own, found)
        for plan, planned in plans.items():
            for job in of_rule(planned, "train"):
                name = f"{plan} train {'/'.join(job['wildcards'].values())}"
                found[name] = identities(job, own)
    print(json.dumps(found))


def run_own(own: dict, found: Found) -> None:
    for rule in ("check", "folds", "pixels", "truth", "weights"):
        for job in of_rule(own, rule):
            run(job, own["config"])
            if rule == "weights":
                fix_safetensors(made(job)["weights"])
            else:
                note(job, found)
    train_one_fold(own, found)
    for seed, job in enumerate(of_rule(own, "predict")):
        run(job, own["config"])
        for name, path in made(job).items():
            found[f"{path} attributes"] = attributes(path)
            fix_probabilities(path, 2 * seed + (name == "last"))
    for job in of_rule(own, "provenance"):  # it names versions and the commit, and refuses files that no training left
        for path in made(job).values():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("{}\n")
    for rule in ("blend", "surface", "decide", "compare", "submit", "leaderboard", "submission"):
        for job in of_rule(own, rule):
            run(job, own["config"])
            note(job, found)


def train_one_fold(own: dict, found: Found) -> None:
    """Train one fold of each recipe for its record, and give all folds its files with fixed numbers."""
    by_recipe: dict[str, dict[str, Path]] = {}
    for job in of_rule(own, "train"):
        recipe = job["wildcards"]["recipe"]
        outputs = made(job)
        if recipe not in by_recipe:
            run(job, own["config"])
            by_recipe[recipe] = outputs
            record = json.loads(outputs["run"].read_text())
            kept = {key: value for key, value in record.items() if key not in MEASURED}
            found[str(outputs["run"])] = f"{sorted(record)} {json.dumps(kept)}"
            header, numbers = outputs["history"].read_text().splitlines()
            found[str(outputs["history"])] = header
            outputs["run"].write_text(json.dumps(record | {"seconds": 1, "images_per_second": 1, "devices": []}) + "\n")
            columns = zip(header.split("\t"), numbers.split("\t"), strict=True)
            fixed = "\t".join(value if name == "epoch" else "0.5" for name, value in columns)
            outputs["history"].write_text(f"{header}\n{fixed}\n")
            for name in ("best", "last"):
                fix_safetensors(outputs[name])
        for name, path in outputs.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                path.write_bytes(by_recipe[recipe][name].read_bytes())


class Job:
    """Like the object that Snakemake hands to a script."""

    def __init__(self, job: dict, config: dict) -> None:
        values = {name: ast.literal_eval(text) for name, text in job["params"].items()}
        self.params = Namedlist(fromdict=values)
        self.wildcards = Namedlist(fromdict=job["wildcards"])
        self.input, self.output = (listed(job[kind]) for kind in ("input", "output"))
        self.resources = Namedlist(fromdict=job["resources"])
        self.log = job["log"]
        self.threads = 1
        self.config = config


def listed(named: dict) -> Namedlist:
    return Namedlist(
        fromdict={
            name: plain(at) if isinstance(at, str) else [plain(path) for path in at] for name, at in named.items()
        }
    )


def made(job: dict) -> dict[str, Path]:
    """Return the outputs of a job by name."""
    return {name: Path(plain(path)) for name, path in job["output"].items()}


def plain(path: str) -> str:
    """Return a path without the flags that a dry run writes before it."""
    return path.rpartition(":")[2]


def run(job: dict, config: dict) -> None:
    """Run the script of a job here; an error shows its log."""
    for path in made(job).values():
        path.parent.mkdir(parents=True, exist_ok=True)
    script = str(REPO / job["script"])
    try:
        runpy.run_path(script, {"snakemake": Job(job, config)}, run_name="__main__")
    except SystemExit:
        sys.stderr.write(f"{job['rule']} {job['wildcards']}:\n{Path(job['log'][0]).read_text()}\n")
        raise


def of_rule(plan: dict, rule: str) -> list[dict]:
    return [job for job in plan["jobs"] if job["rule"] == rule]


# What is compared


def note(job: dict, found: Found) -> None:
    """Note what a job has made, but for what is drawn."""
    for path in made(job).values():
        if path.suffix == ".html" or (path.is_dir() and path.suffix != ".zarr"):
            continue
        if path.is_dir():
            found[f"{path} attributes"] = attributes(path)
            found[f"{path} values"] = values(path)
        else:
            found[str(path)] = shown(path.read_text(encoding="utf-8"))


def attributes(store: Path) -> str:
    return json.dumps(json.loads((store / "zarr.json").read_text())["attributes"])


def values(store: Path) -> str:
    """Return shape, type and digest of each array of a store."""
    import zarr

    node = zarr.open(store, mode="r")
    arrays = {"": node} if isinstance(node, zarr.Array) else dict(sorted(deep(node)))
    told = [
        f"{name} {array.shape} {array.dtype} {array.metadata.dimension_names} "
        f"{hashlib.sha256(array[:].tobytes()).hexdigest()}"
        for name, array in arrays.items()
    ]
    return "; ".join(told)


def deep(group, prefix: str = "") -> list:
    found = [(prefix + name, array) for name, array in group.arrays()]
    return found + [each for name, inner in group.groups() for each in deep(inner, f"{prefix}{name}/")]


def shown(text: str) -> str:
    """Return a text, floats to nine digits, since the order of a sum is the machine's; a long one cut."""
    text = re.sub(r"-?\d+\.\d{7,}(?:e-?\d+)?", lambda match: f"{float(match[0]):.9g}", text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text if len(text) <= LONGEST else f"{text[:400]} ... {len(text)} characters, sha256 {digest}"


# What a training is known by


class Told(BaseException):
    """What a state's digest was compared with. No Exception, since a damaged state is no error."""


class Asks:
    """A digest that raises what it is compared with."""

    def __eq__(self, other: object) -> bool:
        raise Told(other)

    def __ne__(self, other: object) -> bool:
        raise Told(other)

    __hash__ = None


def identities(job: dict, own: dict) -> str:
    """Return the names by which a training would find its finished files and its state, on the data of `own`.

    The job runs until it has looked for the first and opened the second, which says what it is compared with.
    """
    import torch

    like = of_rule(own, "train")[0]
    folder = Path("identities") / "/".join(job["wildcards"].values())
    outputs = {name: str(folder / path.name) for name, path in made(job).items()}
    inputs = like["input"] | {"canvas": like["input"]["pixels"] if job["input"]["canvas"] else []}
    asked: list[str] = []
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / "training.state", "w") as archive:
        archive.writestr("state", "")
    with (
        replaced(pathlib.Path, "is_dir", asking(asked)),
        replaced(torch, "load", lambda *_, **__: {"digest": Asks()}),
        replaced(torch, "__version__", "9.9.9"),
    ):
        told = comparing(job | {"input": inputs, "output": outputs, "log": [str(folder / "train.log")]})
    (finished,) = dict.fromkeys(asked)
    return f"finished {finished}, state {told}"


def comparing(job: dict) -> str:
    script = str(REPO / job["script"])
    try:
        runpy.run_path(script, {"snakemake": Job(job, {"device": "cpu"})}, run_name="__main__")
    except (Told, SystemExit) as error:
        told = error if isinstance(error, Told) else error.__context__
        if isinstance(told, Told):
            return str(told.args[0])[:16]
        sys.stderr.write(Path(job["log"][0]).read_text())
        raise
    raise AssertionError(f"{job['wildcards']}: no state was looked for")


def asking(asked: list[str]) -> Callable[[Path], bool]:
    is_dir = pathlib.Path.is_dir

    def remember(path: Path) -> bool:
        if path.parent.name == "finished":
            asked.append(path.name)
        return is_dir(path)

    return remember


@contextlib.contextmanager
def replaced(owner: object, name: str, value: object):
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


if __name__ == "__main__":
    main()
