"""One page for each error code, `E402.md`, as `trueup explain E402` shows it."""
