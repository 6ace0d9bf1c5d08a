"""Whether a submission can be meant: its rows, its runs, and its masks beside those of training."""
