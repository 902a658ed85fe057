"""The error of this room."""


class ReportError(ValueError):
    """A report cannot be made of what was given."""
