"""What a run needs before it is begun: memory, time, and what to change where it does not fit."""
