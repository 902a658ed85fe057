"""Bodies of the command line's commands."""
