"""What may be asked: each function takes a connection and who looks, and returns plain values.

The shapes are those of the reading API (docs/reference/server-api.md). None stands for what is not
there or may not be seen, which nobody can tell apart.
"""
