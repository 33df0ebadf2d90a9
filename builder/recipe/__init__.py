"""Recipes: load, merge, check, plan. Nothing here needs root or the network."""
