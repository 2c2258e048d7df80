"""What pyproject.toml cannot say of the build: a wheel also holds configs/ and the preparation's scripts, inside of the
package; and the compiled CPU kernels, against the torch that is there.

Without torch at build time (build isolation) or without a C++ compiler the package installs all the same, and computes
in plain torch.
"""

import glob
import os
import sys

if __name__ == "__main__":  # under --user-dir this folder is on sys.path: whoever imports a `setup` must start no build
    from setuptools import setup
    from setuptools.command.build_py import build_py

    class BuildWithRecipes(build_py):
        """setuptools' own; in a clone, which is what an editable installation is, these two stay where they are."""

        def run(self):
            """Builds the modules, then copies."""
            super().run()
            if not self.editable_mode:
                shipped = [*glob.glob("configs/**/*.yaml", recursive=True), *glob.glob("scripts/prepare_*.sh")]
                for path in [*shipped, "scripts/common.sh"]:
                    target = os.path.join(self.build_lib, "fairseq_powernorm", path)
                    self.mkpath(os.path.dirname(target))
                    self.copy_file(path, target)

    try:
        from torch.utils.cpp_extension import BuildExtension, CppExtension
    except ImportError:
        sys.stderr.write("no torch to build against: the package computes in plain torch on the CPU\n")
        setup(cmdclass={"build_py": BuildWithRecipes})
    else:
        kernels = CppExtension(
            "fairseq_powernorm.kernels._cpu",
            ["fairseq_powernorm/kernels/cpu.cpp"],
            extra_compile_args=["-O3", "-std=c++20", "-fopenmp", "-ffp-contract=fast", "-g0"],
            extra_link_args=["-fopenmp"],
        )
        kernels.optional = True
        setup(
            ext_modules=[kernels],
            cmdclass={"build_py": BuildWithRecipes, "build_ext": BuildExtension.with_options(use_ninja=False)},
        )
