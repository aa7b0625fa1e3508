"""Runs: from settings to a folder with a model, and everything that such a folder holds."""
