"""A package of the program's author."""
