"""The claims, a file each; a file with a YAML beside it runs that recipe."""
