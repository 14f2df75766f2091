"""The attention blocks and their controls."""
