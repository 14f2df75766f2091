"""Where networks look, and what their gates do."""
