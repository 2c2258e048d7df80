"""The norms as torch modules, each with its declaration: parameters, statistics, and which of them a pass uses."""
