"""The transforms of albumentations and their arguments, as a table, so that a typo is found without importing it.

    python -m cloudseg.network.transforms     # makes the table anew; a test holds it against the installed library

Parsing a workflow must not take the second that the import of albumentations costs, in every job.
"""

import inspect
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from cloudseg.schema import FOLDER, nearest

TABLE = FOLDER / "augmentation.json"
CHOICES = ("OneOf", "Sequential", "SomeOf")


@cache
def transforms() -> dict[str, list[str]]:
    """Return the arguments of every transform that changes images, and masks with them."""
    return json.loads(TABLE.read_text(encoding="utf-8"))


def augmentation_problems(steps: Sequence[Mapping[str, Any]], prefix: str = "") -> Iterator[str]:
    """Yield what is wrong with the names in an augmentation: the step, what came, the nearest names.

    Parameters
    ----------
    steps : as in a recipe: ``name``, the transform's own arguments, and the ``transforms`` that a choice is made of.
    prefix : the number of the step that these steps are part of, with a full stop.

    Examples
    --------
    >>> list(augmentation_problems([{"name": "HorizontalFlip"}, {"name": "Rotate", "limits": 30}]))
    ["step 2: Rotate has no argument 'limits' (nearest: limit)"]
    """
    for number, step in enumerate(steps, start=1):
        where, name = f"step {prefix}{number}", step.get("name", "")
        if name not in transforms():
            yield f"{where}: no transform {name!r}{nearest(name, transforms())}"
            continue
        for argument in step:
            if argument not in ("name", *transforms()[name]):
                yield f"{where}: {name} has no argument {argument!r}{nearest(argument, transforms()[name])}"
        if name in CHOICES:
            if not isinstance(step.get("transforms"), list) or not all(isinstance(s, dict) for s in step["transforms"]):
                yield f"{where}: {name} needs `transforms`, a list of steps"
            else:
                yield from augmentation_problems(step["transforms"], f"{prefix}{number}.")


def installed_transforms() -> dict[str, type]:
    """Return the classes of the installed albumentations that the table is about, by name."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # read at import, which would look for news on the network
    import albumentations

    kinds = (albumentations.ImageOnlyTransform, albumentations.DualTransform)
    found = {
        name: member
        for name, member in vars(albumentations).items()
        if inspect.isclass(member) and issubclass(member, kinds) and member not in kinds
    }
    return dict(sorted(found.items())) | {name: getattr(albumentations, name) for name in CHOICES}


def arguments_of(transform: type) -> list[str]:
    """Return the names of the arguments that a transform takes in a recipe."""
    return [name for name in inspect.signature(transform).parameters if name != "strict"]


def installed_table() -> dict[str, list[str]]:
    """Return the table as the installed albumentations has it."""
    return {name: arguments_of(transform) for name, transform in sorted(installed_transforms().items())}


if __name__ == "__main__":
    rows = (f"  {json.dumps(name)}: {json.dumps(arguments)}" for name, arguments in installed_table().items())
    TABLE.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
