"""What the tables mean by their words: the one list, for the pages of a report and for `docs/glossary.md`.

python -m cloudseg.report.glossary     # writes the table of the documentation anew; a test compares
"""

from collections.abc import Sequence
from pathlib import Path

from cloudseg.storage import files

DOCUMENT = Path(__file__).parents[3] / "docs/glossary.md"

TERMS = {
    "plane": (
        "One image and one class: the unit that is predicted, thresholded, scored and written as one row of "
        "`submission.csv`."
    ),
    "Dice": (
        "2·|A∩B| / (|A|+|B|) of a predicted and a true plane, 1 when both are empty. A Dice in a table is the "
        "mean over images, then classes, then folds, on the submission grid, after the decision (threshold "
        "and minimum size)."
    ),
    "validation Dice": (
        "The Dice in `history.tsv`, at the training size: the signal that chooses `best` and stops a "
        "training. It is not a score."
    ),
    "submission grid": (
        "Height x width of the masks in `submission.csv` (`submission_size`). Probabilities, minimum sizes "
        "and scores refer to it."
    ),
    "fold": (
        "One part of the training images. The network of fold k is trained on all other folds and validated on fold k."
    ),
    "out of fold": "Predicted by networks that were not trained on the image. All our scores are out of fold.",
    "run": "One training: encoder, decoder, size, recipe and fold, and the seed of a replicate.",
    "replicate": "An experiment that differs from another in its seed alone, on the same folds.",
    "fold all": "A training on all images: it validates on none, and joins its folds where test images are blended.",
    "experiment": "A row of the sheet: the runs of its folds.",
    "recipe": "Everything about a training except encoder, decoder, size and fold, under a name in the config.",
    "`best`, `last`": (
        "The two checkpoints of a run: the epoch with the best validation, and the last epoch. `best` was "
        "chosen on the fold that it is scored on, so its out-of-fold Dice is optimistic; tables mark it with "
        "(*)."
    ),
    "ensemble": "Checkpoints whose probabilities are averaged (blended), and a decision.",
    "blend": (
        "The weighted mean of the members' probabilities, rounded once to a byte. An experiment has the same "
        "weight out of fold as on the test images."
    ),
    "decision": (
        "How probabilities become masks: a threshold and a minimum size per class, and what else is asked of a mask "
        "or of its plane. `fixed` takes the numbers from the config; `grid`, `tune`, `rate` and `expected` choose them "
        "on the out-of-fold images."
    ),
    "presence": (
        "Whether a class is in an image at all. A decision may ask for it first, by a score of the plane from 0 to 1 "
        "(mean of its largest pixels, one of its pixels, its area from a level on); a plane below the threshold of "
        "presence is empty."
    ),
    "best class": "The class with the highest score of presence in an image, which may count as present for that.",
    "top level, `plane_min`": (
        "A plane with fewer pixels from the top level on than an area is empty. The area is that of the plane, a "
        "minimum size that of a component."
    ),
    "high level, `high`": (
        "A component stays if one of its pixels has it (hysteresis); the level says how far the component reaches."
    ),
    "level": (
        "The threshold as a byte: a pixel belongs to the mask when its probability (0..255) is at least the level."
    ),
    "minimum size": (
        "Connected components (8 neighbours) with fewer pixels than this, on the submission grid, are removed."
    ),
    "whether, where": (
        "The members of an ensemble whose blend tells presence, and those whose blend becomes masks; without the two, "
        "all members do both."
    ),
    "vote": "A blend of masks in place of probabilities: a pixel's value is the share of weight that has it in.",
    "search": (
        "A choice of members and weights among many, on out-of-fold probabilities; nested, as a decision is: a fold is "
        "blended with what the other folds choose."
    ),
    "in sample": "As tuned on itself: the Dice of a choice on the images that it was made on.",
    "surface": "The out-of-fold Dice of every level and minimum size, per class and fold.",
    "tuned on itself (*)": "The Dice of a chosen decision on the images it was chosen on: optimistic.",
    "nested": "The Dice of a decision on each fold, chosen on the other folds, averaged over the folds: honest.",
    "all empty": "The Dice of a submission without any mask, which is the share of empty planes.",
    "everywhere or nowhere": "The Dice of the best submission that fills or empties each class as a whole.",
    "views, TTA": (
        "Test-time augmentation: the image is flipped or scaled and predicted, the probabilities are turned "
        "back, and all views are averaged."
    ),
    "sharpen": "Temperature sharpening: average p to a power instead of p.",
    "canvas": "The size at which images are augmented before they are resized to the training size.",
    "smoke run": "`--config smoke=true`: the whole workflow at toy size. Its scores mean nothing.",
}


def terms(words: Sequence[str]) -> dict[str, str]:
    """Return some words with what they mean; code in both stands between backticks.

    Examples
    --------
    >>> terms(["run"])
    {'run': 'One training: encoder, decoder, size, recipe and fold, and the seed of a replicate.'}
    """
    return {word: TERMS[word] for word in words}


def glossary_table() -> str:
    """Return all words as the table of `docs/glossary.md`."""
    rows = [("word", "meaning here"), ("---", "---"), *TERMS.items()]
    return "".join(f"| {_markdown(word)} | {_markdown(meaning)} |\n" for word, meaning in rows)


def _markdown(text: str) -> str:
    return text.replace("|", "\\|").replace("(*)", "(\\*)")


if __name__ == "__main__":
    head = DOCUMENT.read_text(encoding="utf-8").partition("| word")[0]
    files.write_text(DOCUMENT, head + glossary_table())
