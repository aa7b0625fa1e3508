"""Ratings: battles between models, the strengths fitted to them, and their intervals."""
