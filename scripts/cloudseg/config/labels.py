"""How a data set writes its labels and its submission, and what its folders and tables are called.

The contests' own forms are in :mod:`cloudseg.config.label_presets`.
"""

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from cloudseg.config.fields import Bool, FrozenDict, Model, Pattern, Scalar


def _within_root(path: str) -> str:
    """Return a path below `root`, written plainly."""
    plain = PurePosixPath(path)
    if plain.is_absolute() or ".." in plain.parts:
        words = "a path below dataset.root, without .., such as train/images"
        raise PydanticCustomError("expected", "expected {expected}", {"expected": words})
    return plain.as_posix()


def _empty_word(value: Any) -> Any:
    """Return what an empty mask is written as, which YAML may have read as nothing or as a number."""
    return "" if value is None else "-1" if value == -1 and not isinstance(value, bool) else value


InRoot = Annotated[
    str, Pattern(r"[^{}<>*?]+", "a path without any of {}<>*? in its name"), AfterValidator(_within_root)
]
Column = Annotated[str, Field(min_length=1)]
Separator = Annotated[str, Pattern(r"[^\w\s]?|_", "one character that is no letter, digit or blank, such as _")]
MaskFiles = Annotated[
    str,
    Pattern(
        r"(?!/)(?!.*\.\.)[^<>*?{}]*(\{class\}[^<>*?{}]*)?\{image\}[^<>*?{}]*(\{class\}[^<>*?{}]*)?",
        "a name with {image} and, where each class has a file, {class}, such as {image}_mask or {class}/{image}",
    ),
]
PixelValue = Annotated[int, Scalar(ge=0, le=65535)]
Written = Literal["", "-", "-1", "no row"]


class LabelsEntry(Model):
    """How the labels of the training images are written."""

    format: Literal["rle", "masks", "coco"] = "rle"
    """`rle` is a table of run lengths (`train_table`), `masks` a folder of images whose pixels say the class, `coco` a
    JSON file of polygons or run lengths. The keys that follow are of `rle`, up to `folder`.
    """
    order: Literal["columns", "rows"] = "columns"
    """How pixels are numbered: down the columns or along the rows."""
    first: Annotated[int, Scalar(ge=0, le=1)] = 1
    """The number of the first pixel; of relative starts, of the first pixel behind the run before."""
    starts: Literal["absolute", "relative"] = "absolute"
    """Whether a start counts from the first pixel of the image or from the end of the run before."""
    runs: Literal["text", "list", "pairs"] = "text"
    """How runs are written: `1 3 9 2`, or as JSON, `[1, 3, 9, 2]` or `[[1, 3], [9, 2]]`."""
    empty: Annotated[Written, BeforeValidator(_empty_word, json_schema_input_type=Written)] = ""
    """What an empty mask is written as in a submission; `no row` leaves its row out. Reading takes all of them."""
    image_column: Column = "Image_Label"
    """The column that names the image, or the image and the class."""
    class_column: Column | None = None
    """The column that names the class, if it has one of its own."""
    text_column: Column = "EncodedPixels"
    """The column of the run lengths. The training table may have further columns."""
    separator: Separator = "_"
    """What stands between image and class where one column names both; empty text where there is but one class, which
    no column names.
    """
    suffix: Bool = True
    """Whether images are named with the suffix of their files."""
    several: Literal["warn", "unite", "split"] = "warn"
    """Several rows of one image and class are united: `warn` says so, for `unite` they are usual, and `split` writes
    each 8-connected component as a row of its own, too.
    """
    submission_columns: Annotated[tuple[Column, ...], Field(min_length=2, max_length=3)] | None = None
    """The columns of the sample submission and of the submission, in their order; the one that names neither image nor
    class has the run lengths. Null is image, class and run lengths as in the training table.
    """
    sample: Literal["pairs", "images"] = "pairs"
    """Whether a row of the sample submission names an image and a class, or an image of which all classes are asked."""
    folder: InRoot = "train_masks"
    """Of `masks`: the folder below `root` with the masks, PNG, TIFF, BMP or GIF."""
    files: MaskFiles = "{image}"
    """Of `masks`: the name of a mask below `folder`, without its suffix. `{image}` is the name of the image without its
    suffix; `{class}`, where each class has a file of its own, which is 0 where the class is not, and 1 or 255 where it
    is.
    """
    values: FrozenDict[str, PixelValue] | None = None
    """Of `masks` with one file per image: the value of each class; null numbers them from 1 on, in their order. 0 is no
    class unless it is named here.
    """
    ignore: tuple[PixelValue, ...] = ()
    """Of `masks`: further values that are no class, such as 255 for a border that nobody labelled."""
    file: InRoot = "annotations.json"
    """Of `coco`: the JSON file below `root`."""

    @property
    def names_no_class(self) -> bool:
        """Whether a table of this form is of one class, which no column names."""
        return self.format == "rle" and not self.separator and self.class_column is None

    @property
    def train_columns(self) -> tuple[str, ...]:
        """The columns that the training table must have: image, class if it has one, run lengths."""
        return tuple(name for name in (self.image_column, self.class_column, self.text_column) if name is not None)

    @property
    def header(self) -> tuple[str, ...]:
        """The columns of the sample submission and of the submission."""
        return self.submission_columns or self.train_columns

    @property
    def submission_text_column(self) -> str:
        """The column of a submission that has the run lengths."""
        return next(name for name in self.header if name not in (self.image_column, self.class_column))


CLOUDS = LabelsEntry()
"""The form of the clouds' contest."""


class Layout(Model):
    """Where the parts of a data set are below its folder, and in which form.

    Examples
    --------
    >>> Layout().params, Layout(labels={"order": "rows"}, train_images="train").params
    ({}, {'train_images': 'train', 'labels': {'order': 'rows'}})
    """

    train_images: InRoot = "train_images"
    test_images: InRoot = "test_images"
    train_table: InRoot = "train.csv"
    sample_submission: InRoot = "sample_submission.csv"
    labels: LabelsEntry = CLOUDS
    submission: LabelsEntry = CLOUDS

    @property
    def params(self) -> dict[str, Any]:
        """What is not as in the clouds' contest, as the param of a job."""
        return self.model_dump(mode="json", exclude_defaults=True)

    @property
    def labels_name(self) -> str:
        """The folder or the file of the labels."""
        names = {"rle": self.train_table, "masks": self.labels.folder, "coco": self.labels.file}
        return names[self.labels.format]

    @property
    def names(self) -> list[str]:
        """The folders and files that a data set must have."""
        return [self.train_images, self.test_images, self.labels_name, self.sample_submission]


CLOUDS_LAYOUT = Layout()

PARTS = ("train_images", "test_images", "train_table", "sample_submission")
"""The keys of `dataset` that name a part of the folder."""
