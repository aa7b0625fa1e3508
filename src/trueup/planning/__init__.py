"""What a run needs before it is begun: memory, time, and the first setting to change where it does not fit."""
