"""Reviews of a diary: which of its events are asked about, and what the answers tell of all of them."""
