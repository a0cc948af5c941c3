"""The command `diary`."""
