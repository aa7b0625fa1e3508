"""Runs under way, looked at from outside: from the files of their folders and their locks alone."""
