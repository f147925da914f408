"""The journal: an append-only log of everything that happened in a run, and its readers.

`event` and `writer` are for whoever makes history, `reader`, `replay` and `index` for whoever
reads it. Nothing is imported here, because jobs need the writer only.
"""
