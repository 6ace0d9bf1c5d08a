"""Names of classes: how many there may be, and which ones have a meaning of their own."""

MOST_CLASSES = 64
"""A mask keeps one bit per class in the widest integer there is."""

IMAGE_COLUMNS = ["image", "split", "height", "width", "digest", "labels"]
"""Of the images table, before the columns of the classes."""

RESERVED_NAMES = {*IMAGE_COLUMNS, "all"}
"""Columns beside those of the classes, and what stands for the mean over classes."""
