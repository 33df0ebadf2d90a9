"""Decides whether an image is good, by looking at the image and at nothing else."""
