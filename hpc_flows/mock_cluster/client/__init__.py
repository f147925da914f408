"""The commands' side of the mock: copied beside them, so that it may import only itself.

A command is started for every call, so this side loads no more than a socket needs.
"""
