"""Statistics: estimates with intervals, and curves of gain against distance."""
