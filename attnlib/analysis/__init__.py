"""From records to numbers: comparisons, curves, claims."""
