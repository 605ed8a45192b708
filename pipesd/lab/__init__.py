"""Experiments: the production actors in virtual time, over links that are models."""
