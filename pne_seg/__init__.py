"""Semantic segmentation training with the Positive-Negative Equal contrastive loss."""
