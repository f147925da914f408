"""The command line: `main` and one module per noun, each loaded when its command is used."""
