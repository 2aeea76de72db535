"""A folder of pictures through a workflow."""
