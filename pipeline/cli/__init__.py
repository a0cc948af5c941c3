"""The command `diary`: one module for each of its commands."""
