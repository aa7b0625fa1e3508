"""Rollouts by a server: weights to it, completions from it, and how far its law is from ours."""
