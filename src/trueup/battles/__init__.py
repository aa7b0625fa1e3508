"""Battles: models answer the same prompts, judges or people choose between two, and ratings follow."""
