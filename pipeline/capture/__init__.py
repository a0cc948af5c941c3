"""From a camera to video files of a few minutes: which camera, its stream, the files, and the recording as a whole."""
