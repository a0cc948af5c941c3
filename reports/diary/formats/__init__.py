"""The diary as files: one module for each format."""
