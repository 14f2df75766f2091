"""The networks, their slots, and what they cost."""
