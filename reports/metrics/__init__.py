"""How good probabilities are. Chooses on val, reports on test."""
