"""The page of doubtful labels: whether all of them lie where they should, and the worst single ones as pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from cloudseg.dataset.contest import ContestFolder, Root
from cloudseg.dataset.decoding import load_image
from cloudseg.ensemble.truth import truth_rows
from cloudseg.postprocess import Cut
from cloudseg.report.colours import class_colour, rgb
from cloudseg.report.page import Column, Picture, Table, write_page
from cloudseg.report.pictures import jpeg
from cloudseg.storage import per_image, stores
from cloudseg.studies.alignment import AS_IT_IS, LEAST, TRANSPOSED, Look
from cloudseg.studies.label_faults import FLIPS, SHARED

PICTURES = 12
ROWS = 100  # of the table in the page; the file has all
WIDTH = 480  # pixels of a picture
FILL = 0.45  # opacity of a prediction

TESTS_GLOSSARY = {
    "images": "How well colour and texture at a place tell, by a linear rule, whether it lies inside of a mask: area "
    "under the ROC curve, 0.5 is chance. The rule knows no positions and no networks are asked, so this finds a fault "
    "that was there before training, too. It tells nothing where a class looks like what is around it.",
    "predictions": "Mean agreement of labels with out-of-fold predictions. This finds labels that were moved after "
    "training, or in part of the images. Networks that were trained on labels that are all moved alike learn them as "
    "far as they can: a shift fully, a flip in part, with low agreement in every row. This test cannot see that; the "
    "images can.",
    "order of pixels": "Run lengths must number pixels down the columns. A shape goes on in the next column; where it "
    "goes on in the next row instead, the labels were counted along the rows.",
    "named, or not": "A way of moving is named when it fits better in each of five parts of the images, and by a "
    f"margin that honest labels do not reach (0.03 and 0.05). Of fewer than {LEAST} images nothing is said, nor of "
    "shifts below a twelfth of an image.",
}
GLOSSARY = {
    "disagreement": "1 less the Dice of label and probabilities, with squares: what the networks are sure of counts "
    "most.",
    "score": f"What the list is sorted by: the disagreement, and {SHARED} of its mean over all classes of the image, "
    "since labels of an image that were exchanged are wrong together.",
    "label, prediction": "Share of the image that the label covers, and mean predicted probability.",
}


def write_label_page(
    table: pd.DataFrame,
    looks: Sequence[Look],
    along_rows: bool | None,
    out: str | Path,
    *,
    blend: str | Path,
    truth: str | Path,
    root: Root,
    cuts: Mapping[str, Cut],
    read_along: bool = False,
) -> None:
    """Write the page.

    Parameters
    ----------
    table : the labels as `rank_labels` returns them.
    looks : the tests of whole data sets.
    along_rows : whether pixels are counted along the rows; None where it cannot be told.
    read_along : whether they are read so.
    out : the page.
    blend : store of the out-of-fold probabilities.
    truth : store of the labels.
    root : the folder in the contest's layout.
    cuts : per class from which level on a pixel is drawn as predicted.
    """
    classes = list(cuts)
    write_page(
        out,
        "labels.html",
        title="Doubtful labels",
        lead=f"{table['image'].nunique():,} images with {len(classes)} {'class' if len(classes) == 1 else 'classes'}, "
        "each predicted by networks that have not seen it",
        verdicts=_verdicts(looks, along_rows, read_along),
        tests=_tests(looks),
        classes=classes,
        pictures=_pictures(table[:PICTURES], blend, truth, root, cuts),
        worst=_worst_table(table[:ROWS], len(table)),
        glossary=TESTS_GLOSSARY | GLOSSARY,
    )


def _verdicts(looks: Sequence[Look], along_rows: bool | None, read_along: bool) -> list[dict[str, Any]]:
    verdicts = [{"text": look.verdict.capitalize(), "bad": look.best is not None} for look in looks]
    counted, read = ("along the rows" if along else "down the columns" for along in (along_rows, read_along))
    is_other = along_rows is not None and along_rows != read_along
    if along_rows is None:
        text = "It cannot be told from the run lengths in which order pixels were counted"
    elif is_other:
        text = f"The run lengths were counted {counted}, and are read {read}: no label is where it should be"
    else:
        text = f"Pixels are counted {counted}, as they should be"
    return [*verdicts, {"text": text, "bad": is_other}]


def _tests(looks: Sequence[Look]) -> Table:
    """Return the table of both tests: labels as they are, each flip, and the best shift of each test."""
    means = {look.of: look.means for look in looks if look.values}
    fixed = [AS_IT_IS, *FLIPS, TRANSPOSED]
    shifts = [max(of_look.keys() - set(fixed), key=lambda way: of_look[way]) for of_look in means.values()]
    rows = [*fixed, *dict.fromkeys(shifts)] if means else []
    names = [way if way == AS_IT_IS else f"if all {'lay' if way in shifts else 'were'} {way}" for way in rows]
    columns = [
        Column(of, [values[way] for way in rows], digits=3, best="max", bar=True, help=TESTS_GLOSSARY[of])
        for of, values in means.items()
    ]
    looked_at = " and ".join(f"{look.images} images by {look.of}" for look in looks)
    return Table([Column("labels", names), *columns], f"{looked_at.capitalize()}; of shifts, the best one.")


def _worst_table(table: pd.DataFrame, count: int) -> Table:
    columns = [
        Column("#", list(range(1, len(table) + 1))),
        Column("image", table["image"].tolist()),
        Column("class", table["class"].tolist()),
        Column("fold", [None if pd.isna(fold) else int(fold) for fold in table["fold"]]),
        Column("score", table["score"].tolist(), digits=3, help=GLOSSARY["score"]),
        Column("disagreement", table["disagreement"].tolist(), digits=3, help=GLOSSARY["disagreement"], bar=True),
        Column("label %", (100 * table["label"]).tolist(), digits=1, help=GLOSSARY["label, prediction"]),
        Column("prediction %", (100 * table["prediction"]).tolist(), digits=1, help=GLOSSARY["label, prediction"]),
        Column("remark", table["remark"].tolist()),
    ]
    return Table(columns, f"The first {len(table):,} of {count:,} labels; labels.tsv has all.")


def _pictures(
    worst: pd.DataFrame, blend: str | Path, truth: str | Path, root: Root, cuts: Mapping[str, Cut]
) -> list[Picture]:
    """Draw the worst labels, each on its image."""
    if worst.empty:
        return []
    probabilities, masks = stores.read(blend), stores.read(truth)
    ids, classes = per_image.ids(probabilities), list(cuts)
    row_of = {name: row for row, name in enumerate(ids)}
    truth_row = truth_rows(ids, per_image.ids(masks), of=blend, truth=truth)
    pictures = []
    for place, (image, name, score, remark) in enumerate(
        worst[["image", "class", "score", "remark"]].itertuples(index=False), 1
    ):
        row, number = row_of[image], classes.index(name)
        seen = stores.read_images(probabilities, slice(row, row + 1))[0, number] >= cuts[name].level
        label = stores.read_images(masks, slice(truth_row[row], truth_row[row] + 1))[0, number]
        drawn = draw(load_image(ContestFolder.of(root).images("train") / image), label, seen, class_colour(number))
        caption = f"{place}. {image}, {name}: {remark or 'disagrees'} ({score:.2f})"
        pictures.append(Picture(jpeg(drawn), f"{image} with its label of {name} and the prediction", caption))
    return pictures


def draw(image: np.ndarray, label: np.ndarray, seen: np.ndarray, colour: str) -> np.ndarray:
    """Return an RGB image of `WIDTH` pixels across with a prediction filled and a label outlined in white and colour.

    Parameters
    ----------
    image : uint8 (H, W, 3) RGB, of any size.
    label, seen : (h, w), the mask of the label and that of the prediction.
    colour : ``#rrggbb``.
    """
    height = max(1, round(image.shape[0] * WIDTH / image.shape[1]))
    drawn = cv2.resize(image, (WIDTH, height), interpolation=cv2.INTER_AREA)
    label, seen = (
        cv2.resize(mask.astype(np.uint8), (WIDTH, height), interpolation=cv2.INTER_NEAREST) for mask in (label, seen)
    )
    tinted = drawn + FILL * (np.array(rgb(colour), np.float32) - drawn)
    drawn = np.where(seen[:, :, None] > 0, tinted, drawn).round().astype(np.uint8)
    outlines, _ = cv2.findContours(label, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    for line, paint in ((6, (255, 255, 255)), (2, rgb(colour))):
        cv2.drawContours(drawn, outlines, -1, paint, line)
    return drawn
