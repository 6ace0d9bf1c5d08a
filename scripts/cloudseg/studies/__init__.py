"""Rules that answer a question: batch size, loading, rounding to a byte, shift between train and test."""
