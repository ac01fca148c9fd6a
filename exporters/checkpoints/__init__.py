"""What families share on the way in: checkpoints read as data, and told from each other."""
