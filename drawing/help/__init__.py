"""Makes the pictures of the help pages: web/docs/pictures/<NodeId>.jpg, one for every node."""
