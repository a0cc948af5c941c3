"""Training: the loop, what it trains, its state on disk, its batches and its validation."""
