"""The edges: DVC stages, parameters, data sets and the `diary` command. Logic lives in the packages above."""
