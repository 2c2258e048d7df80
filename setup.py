"""The one part of the build that pyproject.toml cannot say: the compiled CPU kernels, against the torch that is there.

Without torch at build time (build isolation) or without a C++ compiler the package installs all the same, and computes
in plain torch.
"""

from setuptools import setup

try:
    from torch.utils.cpp_extension import BuildExtension, CppExtension
except ImportError:
    extensions, commands = [], {}
else:
    flags = ["-O3", "-std=c++20", "-fopenmp", "-ffp-contract=fast", "-g0"]
    kernels = CppExtension(
        "fairseq_powernorm.kernels._rows",
        ["fairseq_powernorm/kernels/rows.cpp"],
        extra_compile_args=flags,
        extra_link_args=["-fopenmp"],
    )
    kernels.optional = True
    extensions, commands = [kernels], {"build_ext": BuildExtension.with_options(use_ninja=False)}

setup(ext_modules=extensions, cmdclass=commands)
