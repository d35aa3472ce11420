"""Training: the loop, its callbacks, metrics, history, checkpoints and run folders."""
