"""Fused passes over rows of tokens: C++ for the CPU, Triton for CUDA devices.

A backend is a module with the functions of :mod:`fairseq_powernorm.functional.rows` and
:mod:`fairseq_powernorm.functional.running`, which choose one by device and say what they compute. Importing anything
here is safe without Triton and without the compiled library.
"""
