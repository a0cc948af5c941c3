"""The demo: a small rendered world in the official Charades layout. Knows how to make files; no stage reads it."""
