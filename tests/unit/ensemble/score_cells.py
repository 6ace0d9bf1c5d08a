"""Tables of scores as a test asks them: by class and fold, where `all` is a mean."""


def by_class_and_fold(table):
    """Return a table of scores with the index (class, fold)."""
    folds = table["fold"].astype(object).where(table["fold"].notna(), "all")
    return table.assign(fold=folds).set_index(["class", "fold"])
