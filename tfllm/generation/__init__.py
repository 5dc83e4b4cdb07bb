"""Generation: one decode loop over a pre-allocated cache, and how the next token is chosen."""
