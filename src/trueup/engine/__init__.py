"""The engine: groups, batches, methods as values, and the one loop that runs them."""
