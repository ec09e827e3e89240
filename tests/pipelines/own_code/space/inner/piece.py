"""Another module of the namespace package."""

PIECE = 7
