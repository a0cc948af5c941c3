"""From events to a diary."""
