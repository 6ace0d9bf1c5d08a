"""Names of classes and of the columns beside them: how many there may be, and which have a meaning of their own."""

MOST_CLASSES = 64
"""A mask has one bit per class, and 64 is the width of the largest integer."""

IMAGE_COLUMNS = ["image", "split", "height", "width", "digest", "labels"]
"""Of the images table, before the columns of the classes."""

EXCLUDED = "excluded"
"""The split, in the images table, of a training image that the user leaves out."""

RESERVED_NAMES = {*IMAGE_COLUMNS, "all"}
"""Names that no class can have: other columns of the images table, and the mean over classes."""
