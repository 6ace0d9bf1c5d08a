"""A finished ensemble as one file, which predicts images where there is no workflow."""
