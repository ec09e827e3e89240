"""The deepest package."""
