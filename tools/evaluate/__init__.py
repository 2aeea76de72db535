"""A folder of results, measured as the papers measure theirs."""
