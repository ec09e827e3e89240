"""The calls of users: map and its forms, executors and pools, here or on a place."""
