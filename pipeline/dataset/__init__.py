"""A data set's manifest, splits and label sets, and what is true of its windows."""
