"""The native rooms: which they are and how they are compiled. All else is in pyproject.toml.

CORO_WEBSOCKET_SANITIZE=1 builds them under the address and undefined-behaviour sanitizers
(fuzz/sanitize.py runs the tests so), CORO_WEBSOCKET_FUZZ=1 with the coverage that libFuzzer
follows (fuzz/run.py does it); both may be set.
"""

import os
import sys

from Cython.Build import cythonize
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

PACKAGE = "src/coro_websocket"
MODULES = [
    *(
        f"_rfc6455/{name}"
        for name in (
            "frames",
            "frame_rules",
            "messages",
            "buffers",
            "sending",
            "shared",
            "incoming",
            "looking_ahead",
            "assembling",
            "receiving",
            "engine",
        )
    ),
    *(
        f"_runtimes/{name}"
        for name in (
            "waiter",
            "runtime",
            "asyncio_runtime",
            "result",
            "trio_runtime",
            "bare_runtime",
        )
    ),
    *(
        f"_streams/{name}"
        for name in ("stream", "fed_stream", "transport_stream", "pair_stream", "byte_consumer")
    ),
    *(
        f"_connection/{name}"
        for name in (
            "turns",
            "keepalive",
            "writing",
            "sharing",
            "reading",
            "connection",
            "awaitables",
            "read_write",
            "group",
        )
    ),
    "_http/usual_heads",
    *(f"_asgi/{name}" for name in ("app_stream", "app_connection", "exchange")),
]
if sys.platform != "win32":
    MODULES += ["_streams/socket_stream", "_streams/tls_stream", "_asgi/direct_stream"]

SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
COVERAGE = ["-fsanitize-coverage=trace-pc,trace-cmp"]
DEBUGGED = ["-O1", "-g", "-fno-omit-frame-pointer", "-fno-strict-aliasing"]

sources: list[str] = []
build_base = "build"
if sys.platform == "win32":
    compile_args, link_args = ["/O2"], []
else:
    compile_args, link_args = ["-O3", "-g0", "-fno-strict-aliasing"], []
    if os.environ.get("CORO_WEBSOCKET_SANITIZE"):
        compile_args, link_args = [*DEBUGGED, *SANITIZE], SANITIZE
        build_base += "/sanitize"
    if os.environ.get("CORO_WEBSOCKET_FUZZ"):
        compile_args = [*(compile_args if link_args else DEBUGGED), *COVERAGE]
        sources = ["fuzz/coverage.c"]
        build_base += "/fuzz"


class ParallelBuild(build_ext):
    """Compile the extensions side by side: a build takes as long as the slowest of them."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()


setup(
    ext_modules=cythonize(
        [
            Extension(
                "coro_websocket." + module.replace("/", "."),
                [f"{PACKAGE}/{module}.pyx", *sources],
                include_dirs=[f"{PACKAGE}/_native"],
                depends=[
                    f"{PACKAGE}/_native/{h}" for h in sorted(os.listdir(f"{PACKAGE}/_native"))
                ],
                extra_compile_args=compile_args,
                extra_link_args=link_args,
            )
            for module in MODULES
        ],
        compiler_directives={
            "language_level": 3,
            "embedsignature": False,
            # Nothing of theirs is shared by threads but what never changes; a connection is
            # touched in its loop's thread only, where `runs_here` says so.
            "freethreading_compatible": True,
        },
        nthreads=0,
    ),
    cmdclass={"build_ext": ParallelBuild},
    # No build takes for its own what another has compiled with other flags.
    options={"build": {"build_base": build_base}},
)
