"""A module beside the deepest one."""

OFFSET = 5
