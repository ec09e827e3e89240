"""Shipped helpers for tests: real servers, faults on purpose, and the contract that every store keeps."""
