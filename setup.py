"""The one part that is compiled; all else of the package is in pyproject.toml.

The extension is optional: without a C compiler, or Python's headers, wsistore is installed
all the same and decodes JPEG with simplejpeg alone, more slowly (`wsistore doctor` says so).
"""

from setuptools import Extension, setup

JPEGCORE = Extension(
    "wsistore.codecs._jpegcore",
    sources=[f"src/jpegcore/{name}.c" for name in ("module", "plain", "avx2")],
    depends=[
        f"src/jpegcore/{name}.h"
        for name in ("layout", "huffman", "header", "entropy", "transform", "colour", "region")
    ],
    # What differs between CPUs is chosen when the module is loaded, so no -march here.
    extra_compile_args=["-std=c11", "-O3", "-fvisibility=hidden", "-fwrapv", "-Wno-psabi"],
    py_limited_api=True,
    optional=True,
)

setup(ext_modules=[JPEGCORE], options={"bdist_wheel": {"py_limited_api": "cp311"}})
