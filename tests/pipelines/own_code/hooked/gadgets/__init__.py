"""A package that is installed editable by a hook into imports."""
