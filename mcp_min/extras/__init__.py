"""What the core does without: each file here can be deleted alone, the folder as a whole."""
