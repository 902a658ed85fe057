"""The error of this room."""


class TrainingError(RuntimeError):
    """A training that cannot start or go on; the message says why, and what would be right."""
