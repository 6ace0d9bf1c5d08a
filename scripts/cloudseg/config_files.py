"""Look at the text of a config, for what is lost once it is read: keys that stand twice, and lines.

    python -m cloudseg.config_files config/mine.yaml     # says everything that is wrong with a config, and where

Snakemake reads a config before any code of a workflow runs, and does not say in which line YAML gave up.
"""

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

# Ten times as fast, where PyYAML was built with it, but it crashes on what is nested too deeply
FastLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def repeated_keys(paths: Iterable[str | Path]) -> list[str]:
    """List the keys that stand twice in configs that Snakemake has read already, one line each."""
    return [line for path in paths for line in text_problems(path, FastLoader) if "there twice" in line]


def text_problems(path: str | Path, loader: Any = yaml.SafeLoader) -> list[str]:
    """List what is wrong with the text of a config: that it is no YAML, or that it has a key twice.

    Parameters
    ----------
    path : YAML or JSON. A template (`__use_yte__`) may repeat its keys.
    loader : of PyYAML.

    Returns
    -------
    list of str : one line each, with the file and the line.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=loader)
    except OSError as error:
        return [f"{path}: cannot be read ({error.strerror})"]
    except UnicodeDecodeError as error:
        return [f"{path}: not UTF-8 text ({error.reason} at byte {error.start})"]
    except RecursionError:
        return [f"{path}: nested too deeply to read"]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        tab = "; indent with blanks, not with tabs" if "\t" in text else ""
        return [f"{path}, line {mark.line + 1}: {error.problem}{tab}" if mark else f"{path}: {error}"]
    except yaml.YAMLError as error:
        return [f"{path}: no YAML ({error})"]
    if "__use_yte__" in text:
        return []
    return [f"{path}, line {line}: {problem}" for line, problem in sorted(_keys_twice(root))]


def _keys_twice(root: yaml.Node | None) -> Iterator[tuple[int, str]]:
    """Yield line and words for each key that a mapping has twice; the last would count, and the others be lost."""
    todo, seen = deque([(root, "")]), set()
    while todo:
        node, place = todo.popleft()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            todo += [(child, f"{place}{number}.") for number, child in enumerate(node.value)]
        elif isinstance(node, yaml.MappingNode):
            first: dict[str, int] = {}
            for key, value in node.value:
                name = key.value if isinstance(key, yaml.ScalarNode) else ""
                line = key.start_mark.line + 1
                if name in first:
                    yield line, f"the key {place}{name} is there twice, first in line {first[name]}; remove one"
                first.setdefault(name, line)
                todo.append((value, f"{place}{name}."))


def main(paths: list[str]) -> int:
    """Print what is wrong with configs; return whether anything is."""
    from cloudseg.workflow.plan import Plan

    wrong = False
    for path in paths:
        problems = text_problems(path)
        if not problems:
            try:
                config = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
                if not isinstance(config, dict):
                    raise ValueError("expected keys at the top level, such as `name: my-clouds`")
                Plan(config, Path(path).resolve().parents[1])
            except ValueError as error:
                problems = [f"{path}: {error}"]
        print("\n".join(problems) or f"{path}: nothing wrong with it")
        wrong |= bool(problems)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
