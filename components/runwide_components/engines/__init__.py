"""What runs pipelines: engines behind one small protocol, in `base`."""
