"""Engines that run pipelines and shards; their protocol is in `base`."""
