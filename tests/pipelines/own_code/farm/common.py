"""Names that the deeper modules of the package share."""

FACTOR = 10
