"""From numbers and events to what people read. Knows no torch."""
