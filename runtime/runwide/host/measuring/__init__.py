"""Measure and record a machine, for `runwide cores --measure` and `--record`."""
