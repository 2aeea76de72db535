"""What each shipped workflow shows, method by method."""
