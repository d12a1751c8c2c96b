"""`compatcheck fix`: trials, training, blend, control and proof."""
