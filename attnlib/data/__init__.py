"""Data sets, splits, batches, augmentation."""
