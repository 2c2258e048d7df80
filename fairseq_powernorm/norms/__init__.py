"""The norms as torch modules: parameters, running statistics, and which statistics a pass goes by."""
