"""The one part of the build that pyproject.toml cannot say: the compiled CPU kernels, against the torch that is there.

Without torch at build time (build isolation) or without a C++ compiler the package installs all the same, and computes
in plain torch.
"""

import sys

if __name__ == "__main__":  # under --user-dir this folder is on sys.path: whoever imports a `setup` must start no build
    from setuptools import setup

    try:
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError:
        sys.stderr.write("no torch to build against: the package computes in plain torch on the CPU\n")
        setup()
    else:
        kernels = CppExtension(
            "fairseq_powernorm.kernels._cpu",
            ["fairseq_powernorm/kernels/cpu.cpp"],
            extra_compile_args=["-O3", "-std=c++20", "-fopenmp", "-ffp-contract=fast", "-g0"],
            extra_link_args=["-fopenmp"],
        )
        kernels.optional = True
        setup(ext_modules=[kernels], cmdclass={"build_ext": BuildExtension.with_options(use_ninja=False)})
