"""The evaluation page of a label set, and its figures."""
