"""Embeddings and block inputs on disk, as Zarr groups with one row a window."""
