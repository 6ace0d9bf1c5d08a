"""Every job of the four configs, plain and as a smoke run, as text that is short enough to be kept.

A file per config and mode holds one line per rule, part and value: the jobs that have this value are all of the rule
(`*`) or those with these numbers, which the rule's `job` lines give. Wildcards stand in paths as `{size}`, so that one
line speaks for many jobs. A text of more than `LONGEST` characters is cut, and its digest says the rest.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
REPO = HERE.parents[1]
CONFIGS = {"demo": "config", "kaggle": "kaggle", "diary": "diary", "pyramid": "pyramid"}
PLANS = [name + mode for name in CONFIGS for mode in ("", "-smoke")]
LONGEST = 150
PATHS = ("input", "output", "log", "benchmark")

Entries = dict[tuple[str, str, str], str]  # rule, wildcards of a job and part of it, to what is there


def dry_run(plan: str) -> dict:
    """Return the jobs and the table of a plan such as `demo-smoke`, from a process of its own."""
    name, _, smoke = plan.partition("-")
    words = [str(REPO / "Snakefile"), str(REPO / f"config/{CONFIGS[name]}.yaml")]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(HERE / "dry_run.py"), *words, folder, *(["smoke=true"] if smoke else [])]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{plan}: {done.stdout[-2000:]}{done.stderr[-4000:]}")
    return json.loads(done.stdout)


def entries(jobs: Iterable[dict], cut: bool) -> Entries:
    """Return all that the jobs say."""
    found = {}
    for job in jobs:
        wildcards = ",".join(f"{name}={value}" for name, value in sorted(job["wildcards"].items()))
        for part, text in parts(job).items():
            found[job["rule"], wildcards, part] = shortened(text) if cut else text
    return found


def parts(job: dict) -> dict[str, str]:
    """Return the parts of a job as text."""
    found = {name: str(job[name]) for name in ("threads", "priority", "local")}
    found |= {f"resources.{name}": str(value) for name, value in job["resources"].items()}
    found |= {f"params.{name}": text for name, text in job["params"].items()}
    for kind in PATHS:
        named = job[kind] if isinstance(job[kind], dict) else {"": job[kind]}
        if all(len(name) and name.isdigit() for name in named):
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


def write(found: Entries) -> str:
    """Return the file that holds these entries."""
    rules: dict[str, dict[str, dict[str, list[int]]]] = {}
    numbers: dict[str, dict[str, int]] = {}
    for (rule, wildcards, part), text in sorted(found.items()):
        number = numbers.setdefault(rule, {}).setdefault(wildcards, len(numbers[rule]))
        rules.setdefault(rule, {}).setdefault(part, {}).setdefault(text, []).append(number)
    lines = []
    for rule, by_part in rules.items():
        lines.append(
            f"{rule}\tjob\t#\t{'/'.join(pair.partition('=')[0] for pair in next(iter(numbers[rule])).split(','))}"
        )
        for wildcards, number in numbers[rule].items():
            lines.append(f"{rule}\tjob\t{number}\t{'/'.join(pair.partition('=')[2] for pair in wildcards.split(','))}")
        for part, by_text in by_part.items():
            for text, which in by_text.items():
                jobs = "*" if len(which) == len(numbers[rule]) else ranges(which)
                lines.append(f"{rule}\t{part}\t{jobs}\t{json.dumps(text, ensure_ascii=False)[1:-1]}")
    return "".join(f"{line}\n" for line in lines)


def read(file: str) -> Entries:
    """Return the entries that a file holds."""
    jobs: dict[str, dict[int, str]] = {}
    found = {}
    for line in file.splitlines():
        rule, part, which, text = line.split("\t")
        if which == "#":
            names = text.split("/")
        elif part == "job":
            pairs = zip(names, text.split("/"), strict=True)
            jobs.setdefault(rule, {})[int(which)] = ",".join(f"{name}={value}" for name, value in pairs if name)
        else:
            for number in jobs[rule] if which == "*" else numbers_of(which):
                found[rule, jobs[rule][number], part] = json.loads(f'"{text}"')
    return found


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


def differences(kept: Entries, now: Entries, most: int = 40) -> list[str]:
    """Say which jobs and parts differ, and how."""
    gone = "(not there)"
    lines = []
    for key in sorted(kept.keys() | now.keys()):
        was, has = kept.get(key, gone), now.get(key, gone)
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
    planned = {plan: dry_run(plan) for plan in PLANS}
    (HERE / "plans").mkdir(exist_ok=True)
    for plan, found in planned.items():
        path(plan).write_text(write(entries(found["jobs"], cuts(plan))), encoding="utf-8")
    TABLE.write_text(table({plan: found["table"] for plan, found in planned.items()}), encoding="utf-8")


TABLE = HERE / "plans" / "table.tsv"


def path(plan: str) -> Path:
    """Return the file of a plan."""
    return HERE / "plans" / f"{plan}.tsv"


def cuts(plan: str) -> bool:
    """Return whether long texts of a plan are cut: the demo's are there whole."""
    return not plan.startswith("demo")


if __name__ == "__main__":
    regenerate()
