"""The models as JSON Schema, for messages, the tables of config/README.md and editors."""

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from cloudseg.config.fields import Model

Node = dict[str, Any]  # the schema of one value
TAGS = ("<string>", "<number>", "<array>", "<object>")  # of the forms of a value, as `form_of` names them
NULL = {"type": "null"}


@cache
def json_schema(model: type[Model]) -> Node:
    """Return the JSON Schema of a model.

    Examples
    --------
    >>> from cloudseg.config.model import Folds
    >>> json_schema(Folds)["properties"]["count"]["maximum"]
    100
    """
    schema = _tidied(model.model_json_schema())
    # A model's own keys come before those that it inherits, as a person would read them
    inherited = {name for base in model.__mro__[1:] for name in getattr(base, "model_fields", ())}
    schema["properties"] = dict(sorted(schema["properties"].items(), key=lambda entry: entry[0] in inherited))
    return schema


def _tidied(node: Any) -> Any:
    """Return a node as a person would write it."""
    if isinstance(node, list):
        return [_tidied(item) for item in node]
    if not isinstance(node, dict):
        return node
    tidy = {key: _tidied(value) for key, value in node.items() if key != "title" or isinstance(value, dict)}
    if isinstance(tidy.get("description"), str):
        tidy["description"] = " ".join(tidy["description"].split())
    if tidy.get("default", 0) is None and not _takes_null(tidy):
        del tidy["default"]  # None stands for a key that is left out
    if isinstance(named := tidy.get("patternProperties"), dict):
        ((pattern, value),) = named.items()
        names = tidy["propertyNames"] | {"pattern": pattern}
        del tidy["patternProperties"]
        tidy |= {"propertyNames": names, "additionalProperties": value}
    if tidy.get("type") == "object" and "minLength" in tidy:
        tidy["minProperties"] = tidy.pop("minLength")
    return tidy


def _takes_null(node: Node) -> bool:
    return NULL in node.get("anyOf", [])


class Schema:
    """A model's JSON Schema, looked up by location or walked key by key.

    Parameters
    ----------
    model : what it describes.
    """

    def __init__(self, model: type[Model]) -> None:
        self.root = json_schema(model)

    def at(self, loc: Sequence[str | int]) -> Node:
        """Return the schema of the value at a location.

        Parameters
        ----------
        loc : keys, numbers of entries, and the tags of forms, as in the errors of pydantic.

        Examples
        --------
        >>> from cloudseg.config.model import Config
        >>> Schema(Config).at(("recipes", "quick", "tta", "<array>", 0, "scale"))["maximum"]
        4
        """
        node = self._resolved(self.root)
        for part in loc:
            node = self._child(node, part)
        return node

    def known_keys(self, loc: Sequence[str | int]) -> list[str]:
        """Return the keys that the mapping at a location may have."""
        return [name for form in self._forms(self.at(loc)) for name in form.get("properties", {})]

    def walk(self) -> Iterator[tuple[str, Node]]:
        """Yield every key with its schema; `{name}` stands for a name, `[]` for each entry of a list.

        Examples
        --------
        >>> from cloudseg.config.model import EnsembleEntry
        >>> [key for key, _ in Schema(EnsembleEntry).walk()][:5]
        ['note', 'reference', 'members', 'members[].query', 'members[].weight']
        """
        yield from self._walk(self._resolved(self.root), "", ())

    def _walk(self, node: Node, prefix: str, within: tuple[Node, ...]) -> Iterator[tuple[str, Node]]:
        for name, child in node.get("properties", {}).items():
            child = self._resolved(child)
            yield prefix + name, child
            for form in self._forms(child):
                below = [(form, "."), (form.get("additionalProperties"), ".{name}.")]
                below += [(entry, "[].") for entry in self._forms(self._resolved(form.get("items", {})))]
                for inner, sign in below:
                    if isinstance(inner, dict) and (inner := self._resolved(inner)) not in within:
                        yield from self._walk(inner, f"{prefix}{name}{sign}", (*within, inner))

    def _resolved(self, node: Node) -> Node:
        """Return a node with what it refers to, and without null as a form of its own: `nullable` says so."""
        if "$ref" in node:
            rest = {key: value for key, value in node.items() if key != "$ref"}
            node = self.root["$defs"][node["$ref"].rpartition("/")[2]] | rest
        if _takes_null(node):
            (form,) = [form for form in node["anyOf"] if form != NULL]
            rest = {key: value for key, value in node.items() if key != "anyOf"}
            node = self._resolved(form) | rest | {"nullable": True}
        return node

    def _forms(self, node: Node) -> list[Node]:
        """Return the forms that a value may have."""
        return [self._resolved(form) for form in node.get("anyOf", node.get("oneOf", [node]))]

    def _child(self, node: Node, part: str | int) -> Node:
        """Return the schema of a key's value, of an entry, or of a form by its tag."""
        forms = self._forms(node)
        if isinstance(part, int):
            return next((self._resolved(form["items"]) for form in forms if "items" in form), {})
        if part in TAGS:
            return next((form for form in forms if f"<{form.get('type')}>" == part or _is_number(form, part)), {})
        for form in forms:
            if part in form.get("properties", {}):
                return self._resolved(form["properties"][part])
        others = (form.get("additionalProperties") for form in forms)
        return next((self._resolved(other) for other in others if isinstance(other, dict)), {})


def _is_number(form: Node, tag: str) -> bool:
    return tag == "<number>" and form.get("type") == "integer"
