"""The DVC stages, a module each: load, one call, write."""
