"""Say whether two folders of results hold the same: python same_bits.py results/demo-smoke OTHER/results/demo-smoke.

Both must have been made on one machine, since another processor trains other bits. Compared are the names of all files,
every byte of stores, tables, decisions, submissions and pictures, every tensor of checkpoints and states of training,
and records and histories but for seconds, versions and the commit. Logs, benchmarks and pages of what is measured are
not compared. The same command with one folder prints the sha256 of each file in it, as far as it is compared.
"""

import csv
import hashlib
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path

# What is measured, or says where and with what
MEASURED = {"seconds", "seconds_per_epoch", "s/epoch", "images_per_second", "devices", "versions", "commit"}
# Files that hold such things: the record of their bytes is not compared
HOLD_MEASURED = ("history.tsv", "run.json", "leaderboard.tsv", "leaderboard.md")
# Pages and charts of such things, whose figures other files hold
PAGES_OF_MEASURED = tuple(
    f"report/{name}" for name in ("leaderboard.html", "curves.html", "time.html", "time.svg", "time.tsv")
)


def main(first: str, second: str | None = None) -> int:
    roots = [Path(first), *([Path(second)] if second else [])]
    for root in roots:
        if not root.is_dir():
            raise SystemExit(f"{root}: expected a folder of results, such as results/demo-smoke")
    if second is None:
        print(*(f"{digest(path)}  {name}" for name, path in files(roots[0]).items()), sep="\n")
        return 0
    found, lines = compare(*roots)
    print(*lines, f"{found} files compared, {len(lines)} differences", sep="\n")
    return bool(lines) or not found


def compare(first: Path, second: Path) -> tuple[int, list[str]]:
    """Return how many files were compared, and a line for each that differs."""
    one, other = files(first), files(second)
    lines = [f"{name}: only in {first if name in one else second}" for name in sorted(one.keys() ^ other.keys())]
    both = sorted(one.keys() & other.keys())
    for name in both:
        if one[name].read_bytes() != other[name].read_bytes():
            was, now = content(one[name]), content(other[name])
            if was != now:
                lines.append(f"{name}: {differing(was, now)}")
    return len(both), lines


def files(root: Path) -> dict[str, Path]:
    """Return the files that are compared, by their path below a folder of results."""
    names = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}
    return {name: path for name, path in names.items() if not is_left_out(name)}


def is_left_out(name: str) -> bool:
    if name.endswith(".outputs.json"):
        return False
    beside = (".log", ".benchmark.tsv", ".asked.json", ".snakemake_timestamp")
    return name.startswith("logs/") or name.endswith(beside + PAGES_OF_MEASURED)


def digest(path: Path) -> str:
    kind = content(path)
    return hashlib.sha256(kind if isinstance(kind, bytes) else repr(kind).encode()).hexdigest()


def content(path: Path) -> bytes | dict | list:
    """Return what is compared of a file: its bytes, or what can be named where something differs."""
    if path.name.endswith(".outputs.json"):
        return read_record(path)
    return READERS.get(path.name, READERS.get(path.suffix, Path.read_bytes))(path)


def read_json(path: Path) -> dict:
    return flat(json.loads(path.read_text(encoding="utf-8")))


def read_record(path: Path) -> dict:
    """Return the digests of a job's outputs, but for files that hold what is measured."""
    return {
        name: value for name, value in read_json(path).items() if not name.endswith(HOLD_MEASURED + PAGES_OF_MEASURED)
    }


def read_page(path: Path) -> list[str]:
    """Return the lines of a page of Markdown, without the columns that are measured."""
    lines, left_out = [], set()
    for line in path.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split("|")] if line.startswith("|") else [line]
        left_out = (left_out or {n for n, cell in enumerate(cells) if cell in MEASURED}) if len(cells) > 1 else set()
        lines.append("|".join(cell for n, cell in enumerate(cells) if n not in left_out))
    return lines


def read_tensors(path: Path) -> dict:
    """Return the header of a safetensors file and its tensors' bytes, without torch."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    body = data[8 + size :]
    return {
        name: about if name == "__metadata__" else (about["dtype"], about["shape"], body[slice(*about["data_offsets"])])
        for name, about in header.items()
    }


def read_state(path: Path) -> dict:
    import torch

    return flat(torch.load(path, map_location="cpu", weights_only=True))


def read_table(path: Path) -> dict:
    """Return a table by column and row, but for the columns that are measured."""
    rows = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""), delimiter="\t")
    cells = {f"row {number}, {name}": value for number, row in enumerate(rows, 2) for name, value in row.items()}
    return {where: value for where, value in cells.items() if where.rpartition(", ")[2] not in MEASURED}


def flat(value: object, place: str = "") -> dict:
    """Return the values in mappings and lists by their place, but for those that are measured."""
    if isinstance(value, dict):
        items = [(str(key), item) for key, item in value.items() if key not in MEASURED]
    elif isinstance(value, list | tuple):
        items = [(str(key), item) for key, item in enumerate(value)]
    elif hasattr(value, "numpy"):  # a tensor; of bfloat16 numpy has no name
        import torch

        whole = value.detach().cpu().contiguous()
        raw = whole.reshape(-1).view(torch.uint8) if whole.numel() else whole.to(torch.uint8)
        return {place: (str(value.dtype), tuple(value.shape), raw.numpy().tobytes())}
    else:
        return {place: value}
    return {key: item for name, part in items for key, item in flat(part, f"{place}.{name}".lstrip(".")).items()}


READERS: dict[str, Callable[[Path], bytes | dict | list]] = {
    "run.json": read_json,
    "history.tsv": read_table,
    "leaderboard.tsv": read_table,
    "leaderboard.md": read_page,
    "training.state": read_state,
    ".safetensors": read_tensors,
}


def differing(was: bytes | dict | list, now: bytes | dict | list, most: int = 4) -> str:
    """Say where two contents differ."""
    if isinstance(was, bytes):
        where = next((place for place, pair in enumerate(zip(was, now, strict=False)) if len(set(pair)) > 1), "the end")
        return f"differs from byte {where} ({len(was)} and {len(now)} bytes)"
    if isinstance(was, list):
        was, now = ({f"line {number}": line for number, line in enumerate(each, 1)} for each in (was, now))
    places = [key for key in sorted(was.keys() | now.keys()) if was.get(key) != now.get(key)]
    more = f" and {len(places) - most} more" if len(places) > most else ""
    shown = ", ".join(f"{key}{told(was, now, key)}" for key in places[:most])
    return f"differs in {shown}{more}"


def told(was: dict, now: dict, key: str) -> str:
    values = [str(content.get(key, "absent")) for content in (was, now)]
    return "" if max(map(len, values)) > 80 else f" ({values[0]} and {values[1]})"


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    sys.exit(main(*sys.argv[1:]))
