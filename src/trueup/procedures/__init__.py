"""Stages of a recipe that train nothing: labelling, evaluating. A file defines `Config` and `run`."""
