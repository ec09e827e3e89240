"""Read items from tables and files: JSON lines, JSON, CSV and Parquet."""
