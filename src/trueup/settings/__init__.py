"""Settings: dataclasses, YAML and the command line merged onto them, and what is found by its name."""
