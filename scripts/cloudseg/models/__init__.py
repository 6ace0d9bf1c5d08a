"""Segmentation networks, their initial weights and their checkpoint files."""
