"""The operators that norms are made of, implemented in plain torch, in C++ for the CPU and in Triton for CUDA devices.

Importing :mod:`.operators` registers them; it is safe without Triton and without the compiled library.
"""
