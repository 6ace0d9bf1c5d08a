"""Every job of the four configs and of images of one's own, plain and as a smoke run, as text short enough to be kept.

A file per config and mode holds one line per rule, part and value: the jobs that have this value are all of the rule
(`*`) or those with these numbers, which the rule's `job` lines give. Wildcards stand in paths as `{size}`, so that one
line speaks for many jobs, and the folder of all results as `<results>`. A text of more than `LONGEST` characters is
cut, and its digest says the rest. Of a smoke run only the lines are kept that its plain run has not (`+`), and those
that this one alone has (`-`).
"""

import functools
import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from inputs import write_own

HERE = Path(__file__).parent
REPO = HERE.parents[1]
CONFIGS = {name: f"config/{name}.yaml" for name in ("kaggle", "diary", "pyramid")}
CONFIGS = {"demo": "config/config.yaml", **CONFIGS, "own": "tests/golden/own/config.yaml"}
PLANS = [name + mode for name in CONFIGS for mode in ("", "-smoke")]
LONGEST = 150
PATHS = ("input", "output", "log", "benchmark")

Entries = dict[tuple[str, str, str], str]  # rule, wildcards of a job and part of it, to what is there


@functools.cache
def dry_run(plan: str) -> dict:
    """Return the config, the jobs and the table of a plan such as `demo-smoke`, from a process of its own."""
    name, _, smoke = plan.partition("-")
    with tempfile.TemporaryDirectory() as folder:
        if name == "own":
            write_own(Path(folder))
        words = [str(REPO / "Snakefile"), str(REPO / CONFIGS[name]), folder, *(["smoke=true"] if smoke else [])]
        return json.loads(output_of(str(HERE / "dry_run.py"), *words, folder=folder))


def output_of(*words: str, folder: str | Path, stdin: str = "") -> str:
    """Return what a program in Python prints.

    Raises
    ------
    RuntimeError : with all that it said, if it ends in an error.
    """
    command = [sys.executable, *words]
    done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {done.stdout[-2000:]}{done.stderr[-6000:]}")
    return done.stdout


def entries(plan: str) -> Entries:
    """Return all that the jobs of a plan say."""
    found = {}
    cut = not plan.startswith("demo")  # one is there whole
    results = re.compile(rf"results/{plan}(?![\w-])")
    for job in dry_run(plan)["jobs"]:
        wildcards = ",".join(f"{name}={value}" for name, value in sorted(job["wildcards"].items()))
        for part, text in parts(job).items():
            text = results.sub("<results>", text)
            found[job["rule"], wildcards, part] = shortened(text) if cut else text
    return found


def parts(job: dict) -> dict[str, str]:
    """Return the parts of a job as text."""
    found = {name: str(job[name]) for name in ("threads", "priority", "local")}
    found |= {f"resources.{name}": str(value) for name, value in job["resources"].items()}
    found |= {f"params.{name}": text for name, text in job["params"].items()}
    for kind in PATHS:
        named = job[kind] if isinstance(job[kind], dict) else {"": job[kind]}
        named = {name: [paths] if isinstance(paths, str) else paths for name, paths in named.items()}
        if all(name.isdigit() for name in named):  # none has a name
            named = {"": [path for paths in named.values() for path in paths]}
        for name, paths in named.items():
            found[f"{kind}.{name}".rstrip(".")] = template(" ".join(paths), job["wildcards"])
    return found


def template(paths: str, wildcards: dict[str, str]) -> str:
    """Write the names of wildcards for their values."""
    names = {value: name for name, value in reversed(wildcards.items())}
    if not names:
        return paths
    values = "|".join(re.escape(value) for value in sorted(names, key=len, reverse=True))
    pattern = rf"(?:(?<!\w)|(?<=/fold))(?:{values})(?!\w)"
    written = re.sub(pattern, lambda match: f"{{{names[match[0]]}}}", paths)
    assert written.format(**wildcards) == paths
    return written


def shortened(text: str) -> str:
    """Cut a long text."""
    if len(text) <= LONGEST:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[:60]} ... {len(text)} characters, sha256 {digest}"


def write(found: Entries) -> list[str]:
    """Return the lines that hold these entries."""
    rules: dict[str, dict[str, dict[str, list[int]]]] = {}
    numbers: dict[str, dict[str, int]] = {}
    for (rule, wildcards, part), text in sorted(found.items()):
        number = numbers.setdefault(rule, {}).setdefault(wildcards, len(numbers[rule]))
        rules.setdefault(rule, {}).setdefault(part, {}).setdefault(text, []).append(number)
    lines = []
    for rule, by_part in rules.items():
        pairs = {number: wildcards.split(",") for wildcards, number in numbers[rule].items()}
        lines.append(f"{rule}\tjob\t#\t{'/'.join(pair.partition('=')[0] for pair in pairs[0])}")
        lines += [f"{rule}\tjob\t{n}\t{'/'.join(pair.partition('=')[2] for pair in pairs[n])}" for n in pairs]
        for part, by_text in by_part.items():
            for text, which in by_text.items():
                jobs = "*" if len(which) == len(numbers[rule]) else ranges(which)
                lines.append(f"{rule}\t{part}\t{jobs}\t{json.dumps(text, ensure_ascii=False)[1:-1]}")
    return lines


def read(lines: Iterable[str]) -> Entries:
    """Return the entries that lines hold, in whatever order they stand."""
    jobs: dict[str, dict[int, str]] = {}
    cells = [line.split("\t") for line in lines]
    names = {rule: text.split("/") for rule, part, which, text in cells if which == "#"}
    for rule, part, which, text in cells:
        if part == "job" and which != "#":
            pairs = zip(names[rule], text.split("/"), strict=True)
            jobs.setdefault(rule, {})[int(which)] = ",".join(f"{name}={value}" for name, value in pairs if name)
    return {
        (rule, jobs[rule][number], part): json.loads(f'"{text}"')
        for rule, part, which, text in cells
        if part != "job"
        for number in (jobs[rule] if which == "*" else numbers_of(which))
    }


def keep(plan: str) -> str:
    """Return the file of a plan, from what its jobs are now; of a smoke run beside the file of the plain one."""
    lines = write(entries(plan))
    if plan.endswith("-smoke"):
        plain = kept(plan.removesuffix("-smoke"))
        gone, new = sorted(set(plain) - set(lines)), sorted(set(lines) - set(plain))
        lines = [*(f"-{line}" for line in gone), *(f"+{line}" for line in new)]
    return "".join(f"{line}\n" for line in lines)


def kept(plan: str) -> list[str]:
    """Return the lines that are kept of a plan."""
    lines = path(plan).read_text(encoding="utf-8").splitlines()
    if not plan.endswith("-smoke"):
        return lines
    gone = {line[1:] for line in lines if line.startswith("-")}
    plain = [line for line in kept(plan.removesuffix("-smoke")) if line not in gone]
    return plain + [line[1:] for line in lines if line.startswith("+")]


def ranges(numbers: list[int]) -> str:
    """Write sorted numbers: 0-2,7."""
    spans: list[list[int]] = []
    for number in numbers:
        if spans and spans[-1][1] == number - 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def numbers_of(spans: str) -> list[int]:
    """Read what `ranges` has written."""
    bounds = [span.partition("-") for span in spans.split(",")]
    return [number for first, _, last in bounds for number in range(int(first), int(last or first) + 1)]


def differences(before: Entries, now: Entries, most: int = 40) -> list[str]:
    """Say which jobs and parts differ, and how."""
    gone = "(not there)"
    lines = []
    for key in sorted(before.keys() | now.keys()):
        was, has = before.get(key, gone), now.get(key, gone)
        if was != has:
            rule, wildcards, part = key
            lines.append(f"{rule} [{wildcards}] {part}:\n    kept {was}\n    now  {has}")
    return [*lines[:most], f"... {len(lines) - most} more"] if len(lines) > most else lines


def table(tables: dict[str, dict[str, int]]) -> str:
    """Return the file with the number of jobs of each rule of each plan."""
    rules = sorted({rule for counts in tables.values() for rule in counts})
    lines = ["\t".join(["rule", *tables])]
    lines += ["\t".join([rule, *(str(counts.get(rule, 0)) for counts in tables.values())]) for rule in rules]
    return "".join(f"{line}\n" for line in lines)


def regenerate() -> None:
    """Write all files of plans."""
    for plan in PLANS:  # a plain one before its smoke run
        path(plan).write_text(keep(plan), encoding="utf-8")
    TABLE.write_text(table({plan: dry_run(plan)["table"] for plan in PLANS}), encoding="utf-8")


TABLE = HERE / "plans" / "table.tsv"


def path(plan: str) -> Path:
    """Return the file of a plan."""
    return HERE / "plans" / f"{plan}.tsv"
