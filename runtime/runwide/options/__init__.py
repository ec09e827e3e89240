"""The options of a call: one record, its checks, and the signatures made of it."""
