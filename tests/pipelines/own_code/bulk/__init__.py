"""A package with a file that no compression makes small."""
