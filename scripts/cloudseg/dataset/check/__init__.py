"""Check a data set before anything is made from it: the rules, the checks of images and tables, and the report."""

from cloudseg.dataset.check.dataset import check_dataset

__all__ = ["check_dataset"]
