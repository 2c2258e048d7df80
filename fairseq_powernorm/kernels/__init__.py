"""The operators that norms are made of, and their implementations: plain torch, C++ for the CPU, Triton for CUDA devices.

Importing :mod:`.operators` registers them; it is safe without Triton and without the compiled library.
"""
