"""Models on the same prompts: `plan` says what runs, `document` what was found, `told` what it means."""
