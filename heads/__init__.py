"""From embeddings to probabilities, thresholds and events. Knows labels by id; knows no data set."""
