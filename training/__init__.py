"""Trains what the methods add, on the networks that run. See docs/training.md."""
