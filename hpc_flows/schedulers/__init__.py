"""Adapters to batch systems: one file per system, the interface in `base`."""
