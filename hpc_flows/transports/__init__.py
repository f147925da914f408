"""How commands and files reach a machine: one file per way, the interface in `base`."""
