"""The program's own modules: found from their sources, archived, and imported elsewhere."""
