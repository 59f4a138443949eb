"""Figures of networks, datasets and results."""
