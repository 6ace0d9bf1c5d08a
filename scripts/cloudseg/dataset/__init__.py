"""Images and labels: made or read, checked, split into folds, and kept as pixel stores."""
