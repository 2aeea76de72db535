"""Pictures, their damaged partners and their texts: from folders and tar shards to batches."""
