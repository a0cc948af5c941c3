"""From a video file to cached embeddings. Knows files, times and the backbone; knows nothing of labels."""
