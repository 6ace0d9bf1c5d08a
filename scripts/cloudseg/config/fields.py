"""The kinds of fields that the config's models are made of: what they take, and how they describe themselves.

A value may come from YAML or as the text that ``--config key=value`` hands over; YAML reads ``2e-3`` as text, too.
Numbers are taken in all these forms, and a whole one is an ``int`` wherever it stands, since the params of jobs are
compared as text.
"""

import functools
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema


class Model(BaseModel):
    """A mapping of a config as a value that cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class FrozenDict(dict):
    """A mapping that cannot be changed and can be hashed; its order counts in neither its hash nor a comparison.

    Examples
    --------
    >>> classes = FrozenDict(Fish=0.5, Flower=0.4)
    >>> classes["Fish"], hash(classes) == hash(FrozenDict(Flower=0.4, Fish=0.5))
    (0.5, True)
    >>> classes["Fish"] = 1
    Traceback (most recent call last):
    ...
    TypeError: this mapping cannot be changed; make another of it
    """

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("this mapping cannot be changed; make another of it")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))

    def __reduce__(self) -> tuple[Any, ...]:
        return FrozenDict, (dict(self),)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Validate as a dict of the same types."""
        kinds = getattr(source, "__args__", (str, Any))
        return core_schema.no_info_after_validator_function(cls, handler.generate_schema(dict[kinds]))


@dataclass(frozen=True)
class Scalar:
    """A number or a truth value, also as text.

    Parameters
    ----------
    ge, gt, le, lt : bounds of a number: at least, more than, at most, less than.
    hint : what helps a person whose number is out of bounds.
    """

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    hint: str | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Bound the number, and read text before, and whole numbers after that."""
        bounds = {name: bound for name in ("ge", "gt", "le", "lt") if (bound := getattr(self, name)) is not None}
        strict = {**handler(source), **bounds, "strict": True}
        if source is bool:
            return core_schema.no_info_before_validator_function(read_text, strict)
        if source is float:
            strict["allow_inf_nan"] = False
        number = core_schema.no_info_before_validator_function(_whole, strict)
        # A strict float makes 1 to 1.0; pydantic's own serializer would do so again
        return core_schema.no_info_after_validator_function(
            _whole, number, serialization=core_schema.simple_ser_schema("any")
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe the number with its hint."""
        return handler(schema) | ({"hint": self.hint} if self.hint else {})


@dataclass(frozen=True)
class Pattern:
    """Text that a regular expression matches as a whole.

    Parameters
    ----------
    regex : what it must match.
    expected : the same in words, with an example.
    """

    regex: str
    expected: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Match text before anything is made of it."""
        return core_schema.no_info_before_validator_function(self._match, handler(source))

    def _match(self, value: Any) -> Any:
        # JSON Schema's `$` would let a line break at the end of a name pass
        if isinstance(value, str) and not re.fullmatch(self.regex, value):
            raise PydanticCustomError("expected", "expected {expected}", {"expected": self.expected})
        return value

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Describe the text for people and for editors."""
        return handler(schema) | {"pattern": f"^({self.regex})$", "expected": self.expected}


def _whole(value: Any) -> Any:
    """Return a number, also one in a text, as an int where it is whole."""
    value = read_text(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def read_text(value: Any) -> Any:
    """Return the number or truth value that a text means, or the value as it is.

    Examples
    --------
    >>> read_text("2e-3"), read_text("true"), read_text("10"), read_text("ten"), read_text(3)
    (0.002, True, 10, 'ten', 3)
    """
    return _meaning(value) if isinstance(value, str) else value


@functools.cache
def _meaning(text: str) -> Any:
    """Return the number or truth value that a text means, or the text: a sheet says the same in thousands of cells."""
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", text):
        return float(text)
    try:
        parsed = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return parsed if isinstance(parsed, bool | int | float) else text


def freeze(value: Any) -> Any:
    """Return a value of YAML such that nothing within it can be changed, with its whole numbers as int.

    Examples
    --------
    >>> freeze({"limit": [-30.0, 30], "fill": 0.5})
    {'limit': (-30, 30), 'fill': 0.5}
    """
    if isinstance(value, Mapping):
        return FrozenDict({key: freeze(item) for key, item in value.items()})
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in value)
    return int(value) if isinstance(value, float) and math.isfinite(value) and value.is_integer() else value


def require_different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return a list's entries if no two of them are equal.

    Raises
    ------
    PydanticCustomError : with the first that stands there twice.
    """
    if twice := [value for value in values if values.count(value) > 1]:
        raise PydanticCustomError("unique_items", "expected different entries", {"twice": twice[0]})
    return values


UNIQUE = AfterValidator(require_different), Field(json_schema_extra={"uniqueItems": True})


def expected(words: str) -> Any:
    """Say in words, with an example, which of several forms a value may have."""
    return Field(json_schema_extra={"expected": words})


def left_out() -> Any:
    """Return the default of a key that has none where it is left out: None, which a config cannot write."""
    return Field(default=None)


def sorted_keys(value: Any) -> Any:
    """Return a value of JSON with the keys of all its mappings sorted.

    Examples
    --------
    >>> sorted_keys({"b": [{"d": 1, "c": 2}], "a": 3})
    {'a': 3, 'b': [{'c': 2, 'd': 1}]}
    """
    if isinstance(value, dict):
        return {key: sorted_keys(value[key]) for key in sorted(value)}
    return [sorted_keys(item) for item in value] if isinstance(value, list) else value


def form_of(value: Any) -> str | None:
    """Return which form a value has that may be text, a number, a list or a mapping: the tag of a union's branch.

    Examples
    --------
    >>> form_of("recipe"), form_of("0.5"), form_of([1]), form_of({"Fish": 1}), form_of(True)
    ('<string>', '<number>', '<array>', '<object>', None)
    """
    read = read_text(value)
    if isinstance(read, int | float) and not isinstance(read, bool):
        return "<number>" if math.isfinite(read) else None
    if isinstance(read, Model):  # as it is asked for when a config is written out
        return "<object>"
    forms = {str: "<string>", list: "<array>", tuple: "<array>", dict: "<object>", FrozenDict: "<object>"}
    return forms.get(type(read))


BY_FORM = Discriminator(form_of)
PIXELS = r"[1-9][0-9]{0,4}x[1-9][0-9]{0,4}"  # HxW
Bool = Annotated[bool, Scalar()]
Positive = Annotated[float, Scalar(gt=0)]
Share = Annotated[float, Scalar(ge=0, le=1)]
