"""Turns recipes into images and releases."""
