"""Checks of the form of labels that need more than one key."""

from collections.abc import Iterator, Sequence

from cloudseg.config.labels import CLOUDS_LAYOUT, PARTS, LabelsEntry
from cloudseg.config.model import Dataset
from cloudseg.config.names import nearest

KEYS_OF = {
    "masks": {"folder", "files", "values", "ignore"},
    "coco": {"file"},
}
KEYS_OF["rle"] = LabelsEntry.model_fields.keys() - {"format"} - KEYS_OF["masks"] - KEYS_OF["coco"]


def label_problems(dataset: Dataset) -> Iterator[str]:
    """Yield what is wrong with the keys of `dataset` that say how labels are written, each sound by itself."""
    given = [key for key in ("labels", "submission", *PARTS) if getattr(dataset, key) is not None]
    if dataset.layout != CLOUDS_LAYOUT and dataset.source != "path":
        yield (
            f"{given[0]}: `source: {dataset.source}` has the form of the clouds' contest; unpack another one's files "
            "yourself, and write `source: path` and the folder as `root`"
        )
        return
    for key in ("labels", "submission"):
        form = getattr(dataset, key)
        if isinstance(form, LabelsEntry):
            yield from (f"{key}.{line}" for line in _entry_problems(form, dataset.classes))
    if isinstance(dataset.submission, LabelsEntry) and dataset.submission.format != "rle":
        yield f"submission.format: expected rle, got {dataset.submission.format}: a submission is a table"
    layout = dataset.layout
    for key, form in (("labels", layout.labels), ("submission", layout.submission)):
        if (
            getattr(dataset, key) is not None
            and form.format == "rle"
            and not form.separator
            and not form.class_column
            and len(dataset.classes) > 1
        ):
            named = getattr(dataset, key) if isinstance(getattr(dataset, key), str) else "separator: ''"
            yield (
                f"{key}: {named} is for one class, since no column names it, and `classes` has "
                f"{len(dataset.classes)} ({', '.join(dataset.classes)})"
            )


def _entry_problems(entry: LabelsEntry, classes: Sequence[str]) -> Iterator[str]:
    changed = {name for name, value in entry if value != LabelsEntry.model_fields[name].default}
    for key in sorted(changed - KEYS_OF[entry.format] - {"format"}):
        (owner,) = [name for name, keys in KEYS_OF.items() if key in keys]
        yield f"{key}: a key of `format: {owner}`, and the format is {entry.format}"
    if entry.format == "rle":
        yield from _column_problems(entry)
    if entry.format == "masks":
        yield from _value_problems(entry, classes)


def _column_problems(entry: LabelsEntry) -> Iterator[str]:
    if len(set(entry.train_columns)) < len(entry.train_columns):
        yield f"text_column: expected different columns, got {', '.join(entry.train_columns)}"
        return
    named = {entry.image_column, entry.class_column} - {None}
    if entry.submission_columns is not None:
        others = [name for name in entry.submission_columns if name not in named]
        if not named <= set(entry.submission_columns) or len(others) != 1:
            yield (
                f"submission_columns: expected {', '.join(sorted(named))} and one other for the run lengths, in the "
                f"order of the sample submission, got {', '.join(entry.submission_columns)}"
            )


def _value_problems(entry: LabelsEntry, classes: Sequence[str]) -> Iterator[str]:
    if entry.values is None:
        return
    if "{class}" in entry.files:
        yield "values: each class has a file of its own (`files` has {class}), so its value is 1 or 255"
        return
    for name in entry.values:
        if name not in classes:
            yield f"values: {name!r} is no class{nearest(name, classes)}"
    if missing := [name for name in classes if name not in entry.values]:
        yield f"values: expected a value for each class, got none for {', '.join(missing)}"
    numbers = [*entry.values.values(), *entry.ignore]
    if twice := sorted({number for number in numbers if numbers.count(number) > 1}):
        yield f"values: expected different values, also from those of `ignore`, got {twice[0]} twice"
