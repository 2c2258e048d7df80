"""The image network that the paper's figures set beside the Transformer: ResNet20 on CIFAR-10, in plain torch."""
