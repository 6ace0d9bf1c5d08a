"""One network on one fold: samples, losses, the loop, its state, and the ranks that share it."""
