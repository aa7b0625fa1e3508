"""Many methods on the same data, model, seeds and budget: `plan` says what runs, `engine` runs it."""
