"""How a Transformer's weights start, and the residual connections that go with it: plain torch, chosen by name."""
