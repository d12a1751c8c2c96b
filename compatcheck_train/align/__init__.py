"""Old and new model with different tokenizers: what corresponds to what, and the old model's part of the loss on it."""
