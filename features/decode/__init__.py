"""From a video file to the frames that it shows, by presentation time."""
