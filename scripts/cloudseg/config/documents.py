"""What the models say of each key, for people and for editors: the tables of config/README.md, and config/schema.json.

python -m cloudseg.config.documents config     # writes both anew; a test holds them to the models
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

from cloudseg.config.fields import Model
from cloudseg.config.json_schema import Node, Schema, json_schema
from cloudseg.config.model import Config, ExperimentRow

TABLES = {"config": Config, "experiments": ExperimentRow}


def table_of_keys(model: type[Model]) -> str:
    """Write the keys of a model as a Markdown table: key, default, meaning.

    Examples
    --------
    >>> from cloudseg.config.model import Folds
    >>> print(table_of_keys(Folds).splitlines()[2])
    | `count` | `5` | Folds in the split; the sheet's `folds` says how many of them are trained. |
    """
    rows = ["| key | default | meaning |", "| --- | --- | --- |"]
    nodes = dict(Schema(model).walk())
    for key, node in nodes.items():
        meaning = node["description"].replace("|", "\\|")
        if "enum" in node:
            meaning += " One of " + ", ".join(f"`{word}`" for word in node["enum"]) + "."
        rows.append(f"| `{key}` | {_default(key, nodes)} | {meaning} |")
    return "\n".join(rows)


def with_tables(page: str) -> str:
    """Return a page with each table of keys between ``<!-- NAME: ... -->`` and ``<!-- end -->`` made anew."""

    def table(found: re.Match[str]) -> str:
        return f"{found[1]}\n{table_of_keys(TABLES[found[2]])}\n<!-- end -->"

    return re.sub(r"(<!-- (\w+): [^\n]*-->)\n.*?<!-- end -->", table, page, flags=re.DOTALL)


def schema_for_editors() -> str:
    """Write the JSON Schema of a config, by which editors complete and check one as it is typed."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "cloudseg config"}
    return json.dumps(_for_editors(schema | json_schema(Config)), indent=1) + "\n"


def _for_editors(node: Any) -> Any:
    """Return a node without what only our messages use; what a pattern means is told in the editor's own key."""
    if isinstance(node, list):
        return [_for_editors(item) for item in node]
    if not isinstance(node, dict):
        return node
    kept = {key: _for_editors(value) for key, value in node.items() if key not in ("expected", "hint")}
    if isinstance(node.get("pattern"), str):
        kept["patternErrorMessage"] = f"expected {node['expected']}"
    return kept


def _default(key: str, nodes: dict[str, Node]) -> str:
    if "default" not in nodes[key]:
        return ""
    default = _without_defaults(nodes[key]["default"], key, nodes)
    text = yaml.safe_dump(default, default_flow_style=True, sort_keys=False, width=10**6)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


def _without_defaults(value: Any, key: str, nodes: dict[str, Node]) -> Any:
    """Return a value without what stands at its own default, which has a row of its own."""
    if isinstance(value, list):
        return [_without_defaults(item, f"{key}[]", nodes) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: item for name, item in value.items() if nodes.get(f"{key}.{name}", {}).get("default", ...) != item}


def main(folder: Path) -> None:
    """Write the tables of the folder's README.md and its schema.json."""
    readme = folder / "README.md"
    readme.write_text(with_tables(readme.read_text(encoding="utf-8")), encoding="utf-8")
    (folder / "schema.json").write_text(schema_for_editors(), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
