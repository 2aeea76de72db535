"""Faces: find them, cut them out aligned, put them back."""
