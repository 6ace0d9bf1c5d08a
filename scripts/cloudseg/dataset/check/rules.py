"""What a data set must be: every rule that the dataset check has, with what to do where it is broken."""

from dataclasses import dataclass, replace

from cloudseg.config.classes import IMAGE_COLUMNS, MOST_CLASSES
from cloudseg.config.labels import CLOUDS_LAYOUT, LabelsEntry, Layout
from cloudseg.dataset.labels.interface import OtherSizeError
from cloudseg.dataset.labels.tables import HEADER, Columns


@dataclass(frozen=True)
class CheckRule:
    """Say what a data set must be: what a finding against it is called, what was expected, and how to fix it.

    Parameters
    ----------
    title : of the findings, in a report.
    expected : what the data should have been.
    fix : what to do.
    error : whether a finding stops the workflow; else it is a warning.
    harmless : a warning that gets one line for all its findings.
    """

    title: str
    expected: str
    fix: str
    error: bool = True
    harmless: bool = False


NO_SUCH_FILE = CheckRule(
    "missing files and folders",
    "train_images/, test_images/, train.csv and sample_submission.csv in the root",
    "put the file there, or correct `root` in the config",
)
NO_IMAGES = CheckRule(
    "folders without an image",
    "at least one .jpg, .jpeg or .png file",
    "put the images there, or correct `root` in the config",
)
BAD_CLASSES = CheckRule(
    "classes of the config that cannot be used",
    f"1 to {MOST_CLASSES} different names, none of them {', '.join(IMAGE_COLUMNS)}",
    "correct `classes` in the config",
)
BAD_IMAGE = CheckRule(
    "images that cannot be used",
    "whole JPEG or PNG files of 8 bits per channel, grey or RGB",
    "fetch the file again, or save it as RGB with 8 bits",
)
TOO_LARGE = CheckRule(
    "images that take more memory than the job has",
    "what the rule asks for (mem_mb), less half a gigabyte",
    "cut the image into tiles, or raise it: --set-resources check:mem_mb=N pixels:mem_mb=N truth:mem_mb=N",
)
TURNED = CheckRule(
    "images that are turned when they are shown",
    "pictures that are stored upright: by their EXIF orientation some programs turn these and others do not, and "
    "labels fit both ways",
    "labelled as a viewer shows them: `mogrify -auto-orient FILE`; labelled as they are stored: "
    "`exiftool -Orientation#=1 FILE`",
)
DAMAGED = CheckRule(
    "JPEG files with damaged data",
    "data that decodes without a complaint",
    "fetch the file again, or look whether it is as it should be",
    error=False,
)
BAD_NAME = CheckRule(
    "names with control characters", "letters, digits, marks and blanks", "rename the file and its rows"
)
SAME_NAME = CheckRule(
    "names that are in both image folders", "a name is a training or a test image", "rename or remove one"
)
BAD_TABLE = CheckRule(
    "tables that cannot be read",
    f"CSV in UTF-8 with the columns {','.join(HEADER)}",
    "export the table again, or correct the line",
)
BAD_ROW = CheckRule(
    "rows that are not two cells",
    ",".join(HEADER),
    "correct the row (is there a comma too many, or a quotation mark astray?)",
)
NO_SUCH_IMAGE = CheckRule(
    "rows that name no image of the folder",
    "<image>_<class>, with an image of train_images/ (train.csv) or test_images/ (sample_submission.csv)",
    "correct the name, put the image there, or remove the row",
)
NO_SUCH_EXCLUDED = CheckRule(
    "images to leave out that are not there",
    "a name of train_images/ per line, with its suffix",
    "correct or remove the line; `#` begins a comment",
)
NO_SUCH_CLASS = CheckRule(
    "rows that name an unknown class",
    "a class of the config",
    "correct the row, or `classes` in the config",
)
TWICE = CheckRule("rows that are there twice", "one row per image and class", "remove one of them")
UNITED = CheckRule(
    "images and classes with several rows",
    "one row per image and class",
    "nothing, if each row is an object: their masks are united; else remove those that are wrong",
    error=False,
)
BAD_TEXT = CheckRule(
    "labels that are malformed",
    "`start length` pairs of whole numbers, from 1 down the columns, ascending, inside the image",
    "correct or empty the cell (runs past the end: was the label made for an image of another size?)",
)
OTHER_SIZE = CheckRule(
    "masks of another size than their image",
    "as high and as wide as the image",
    "save the mask again at the size of its image (are height and width swapped?)",
)
BAD_MASK = CheckRule(
    "masks that cannot be used",
    "PNG, TIFF, BMP or GIF files with one value per pixel, each of them known",
    "save the mask again, or name the value in `values` or `ignore` of `labels`",
)
MASK_WITHOUT_IMAGE = CheckRule(
    "masks without an image",
    "a mask per image, named as `files` of `labels` says",
    "correct `files`, rename or remove the mask, or put its image there",
)
TWO_FORMATS = CheckRule(
    "masks in several files",
    "one file per mask",
    "remove all but one: it is not known which of them counts",
)
NO_MASK = CheckRule(
    "files that are no masks",
    "PNG, TIFF, BMP or GIF files: JPEG does not keep values as they are",
    "convert them if they are masks",
    error=False,
    harmless=True,
)
BAD_COCO = CheckRule(
    "files that are no COCO annotations",
    "JSON in UTF-8 with the lists `images`, `annotations` and `categories`",
    "export the file again",
)
BAD_ENTRY = CheckRule(
    "entries that are not whole",
    "`id` and `file_name` of an image, `id` and `name` of a category, `image_id` and `category_id` of an annotation",
    "correct or remove the entry",
)
SAME_COCO_ID = CheckRule("ids that are there twice", "each image and category once", "remove one of them")
NO_SUCH_ID = CheckRule(
    "annotations of what is not there",
    "an `image_id` of `images` and a `category_id` of `categories`",
    "correct or remove the annotation, or add what it names",
)
NO_SUCH_CATEGORY = CheckRule(
    "classes that are no category",
    "each class of the config among the names of `categories`",
    "correct `classes` in the config, or the category",
)
OTHER_CATEGORY = CheckRule(
    "categories that are no class",
    "classes of the config",
    "nothing, if they are not wanted; else name them in `classes`",
    error=False,
    harmless=True,
)
BAD_ANNOTATION = CheckRule(
    "annotations that are malformed",
    "polygons of three corners or more inside the image, or run lengths of all its pixels",
    "correct or remove the annotation (outside: were the outlines made for an image of another size?)",
)
SAME_ID = CheckRule(
    "images that the labels cannot tell apart",
    "names that differ in more than their suffix, since labels name images without it",
    "rename one of them, or remove it",
)
OTHER_ORDER = CheckRule(
    "run lengths that seem to be counted in another order",
    "pixels numbered as `order` of `labels` says: masks of shapes then go on in the next column or row",
    "nothing, if masks look as they should on the page of images and labels; else set `order`, columns or rows",
    error=False,
)
NOT_IN_SAMPLE = CheckRule(
    "test images that the sample submission lacks",
    "one row per test image and class in sample_submission.csv",
    "add the rows, or remove the image",
)
NO_TEST = CheckRule(
    "no test images",
    "test_images/ beside train_images/",
    "everything is made that needs none, and no submission",
    error=False,
    harmless=True,
)
NO_SAMPLE = CheckRule(
    "test images without a sample submission",
    "sample_submission.csv, whose rows a submission has",
    "its rows will be all test images in the order of their names, each with all classes in the order of the config",
    error=False,
    harmless=True,
)
NO_ROWS = CheckRule(
    "images without labels",
    "one row per training image and class in train.csv",
    "nothing, if none of the classes is in it: that is how it will be used",
    error=False,
)
ONLY_MASKS = CheckRule(
    "images and classes without a row",
    "one row per training image and class in train.csv",
    "no other row is empty either, so they are taken to be without a pixel",
    error=False,
    harmless=True,
)
NO_LABELS = CheckRule(
    "tables without any label",
    "some pixels of some class: with none, every empty submission scores 1",
    "is train.csv whole, and do its classes stand in the config?",
)
CUT_OFF = CheckRule(
    "tables whose last line does not end", "a line break at the end", "nothing, if the last row is whole", error=False
)
NEVER = CheckRule(
    "classes that no training image holds",
    "some pixels of each class",
    "nothing, or take the class out of the config",
    error=False,
)
ALL_BLACK = CheckRule("images that are all black", "a picture", "nothing, or remove it", error=False)
GREY = CheckRule("grey images", "RGB", "grey is repeated in the three channels", error=False, harmless=True)
ALPHA = CheckRule("images with transparency", "RGB", "the transparency is dropped", error=False, harmless=True)
SAME_BYTES = CheckRule(
    "images with the same bytes as another",
    "each picture once",
    "nothing (training images: they share a fold), or remove one",
    error=False,
)
STRETCHED = CheckRule(
    "images of other proportions than the submission",
    "height to width as in the submission, within 1 %",
    "nothing: masks are stretched to the size of the submission; or correct that in the config",
    error=False,
)
UNFIT = CheckRule(
    "sizes of the experiment sheet that fit no image",
    "images of one size, training and test, where a size of the sheet divides it (xN), and something left of it",
    "write the size as HxW, such as 320x480, in the sheet",
)
LOST = CheckRule(
    "minimum sizes that remove true masks",
    "a `min_size` that the masks of train.csv outlive on the submission grid",
    "paste the line into that decision, or leave it if masks so small are not meant",
    error=False,
)
IGNORED = CheckRule(
    "files that are not used",
    ".jpg, .jpeg and .png files",
    "convert them if they are images",
    error=False,
    harmless=True,
)


def of_label_error(error: ValueError, layout: Layout) -> CheckRule:
    """Return the rule that labels break which cannot be read or drawn."""
    if isinstance(error, OtherSizeError):
        return OTHER_SIZE
    if layout.labels.format == "masks":
        return BAD_MASK
    return BAD_ANNOTATION if layout.labels.format == "coco" else of_layout(BAD_TEXT, layout)


def of_layout(rule: CheckRule, layout: Layout) -> CheckRule:
    """Return a rule with the names and the form that a data set has where they are not those of the clouds' contest.

    Examples
    --------
    >>> of_layout(NO_SUCH_IMAGE, Layout(labels={"class_column": "class"}, train_images="train")).expected
    'the name of an image in train (train.csv) or test_images (sample_submission.csv)'
    """
    if layout == CLOUDS_LAYOUT:
        return rule
    known, names = layout.labels, ", ".join(layout.names[:-1])
    images = f"in {layout.train_images} ({layout.labels_name}) or {layout.test_images} ({layout.sample_submission})"
    expected = {
        NO_SUCH_FILE: f"{names} and {layout.sample_submission} in the root",
        NO_SUCH_IMAGE: f"the name of an image {images}",
        NOT_IN_SAMPLE: f"rows of each test image in {layout.sample_submission}",
        NO_ROWS: f"labels of each training image in {layout.labels_name}",
        ONLY_MASKS: f"labels of each training image in {layout.labels_name}",
        BAD_TEXT: runs_in_words(known),
        LOST: f"a `min_size` that the masks of {layout.labels_name} outlive on the submission grid",
    }
    fixes = {NO_LABELS: f"is {layout.labels_name} whole, and do its classes stand in the config?"}
    return replace(rule, expected=expected.get(rule, rule.expected), fix=fixes.get(rule, rule.fix))


def of_table(rule: CheckRule, columns: Columns) -> CheckRule:
    """Return a rule of rows with the columns that a table has."""
    if columns.whole == tuple(HEADER):
        return rule
    if rule is BAD_TABLE:
        return replace(rule, expected=f"CSV in UTF-8 with the columns {columns.words}")
    return replace(rule, title="rows that have not the cells of the header", expected=columns.words)


def runs_in_words(entry: LabelsEntry) -> str:
    """Say how run lengths are written in a form.

    Examples
    --------
    >>> runs_in_words(LabelsEntry()) == BAD_TEXT.expected
    True
    """
    written = {
        "text": "`start length` pairs of whole numbers",
        "list": "a JSON list of starts and lengths, `[1, 3, 9, 2]`",
        "pairs": "a JSON list of pairs, `[[1, 3], [9, 2]]`",
    }
    order = "down the columns" if entry.order == "columns" else "along the rows"
    relative = ", each start from the end of the run before" if entry.starts == "relative" else ""
    return f"{written[entry.runs]}, from {entry.first} {order}{relative}, ascending, inside the image"
