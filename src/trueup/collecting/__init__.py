"""People in the loop: a local web app in which annotators compare, rank, write and rate, and its store."""
