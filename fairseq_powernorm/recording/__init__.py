"""What the norms of a model see in a training, written down: the numbers behind the paper's figures. Plain torch."""
