"""Probabilities of a trained network, view by view."""
