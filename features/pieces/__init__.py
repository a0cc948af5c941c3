"""Pieces of the cache: where they lie, in a folder or an object store, and what is in them."""
