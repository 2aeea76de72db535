"""The tagger RAM with DAPE (SeeSR), and what else puts a picture into words."""
