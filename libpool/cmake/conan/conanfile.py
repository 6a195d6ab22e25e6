# conan create libpool/cmake/conan --build=missing
# Builds the source tree that it stands in.
import os

from conan import ConanFile
from conan.errors import ConanInvalidConfiguration
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeDeps, CMakeToolchain, cmake_layout
from conan.tools.files import copy, get
from conan.tools.gnu import PkgConfigDeps


class Kindred(ConanFile):
    name = "kindred"
    version = "0.1.0"
    license = "MIT"
    description = "A process pool for Linux with logging built in"
    topics = ("process-pool", "logging", "concurrency", "shared-memory")
    package_type = "library"
    settings = "os", "arch", "compiler", "build_type"
    options = {"shared": [True, False], "fPIC": [True, False], "tools": [True, False], "view": [True, False]}
    default_options = {"shared": False, "fPIC": True, "tools": True, "view": False, "boost/*:header_only": False,
                       "boost/*:without_process": False}

    def export_sources(self):
        root = os.path.join(self.recipe_folder, "..", "..", "..")
        for pattern in ("CMakeLists.txt", "LICENSE", "libpool/*", "liblog/*", "tests/support/*"):
            copy(self, pattern, src=root, dst=self.export_sources_folder)

    def configure(self):
        if self.options.shared:
            self.options.rm_safe("fPIC")

    def layout(self):
        cmake_layout(self, src_folder=".")

    def validate(self):
        if self.settings.os != "Linux" or self.settings.arch not in ("x86_64", "armv8"):
            raise ConanInvalidConfiguration("kindred needs Linux on x86-64 or arm64")
        check_min_cppstd(self, 20)

    # What the public headers include is transitive.
    def requirements(self):
        self.requires("boost/[>=1.81]", transitive_headers=True)
        self.requires("fmt/[>=9.1]", transitive_headers=True)
        self.requires("spdlog/[>=1.10]", transitive_headers=True)
        self.requires("cereal/[>=1.3]", transitive_headers=True)
        self.requires("zlib/[>=1.2.11 <2]")
        self.requires("zstd/[>=1.5]")

        if self.options.tools or self.options.view:
            self.requires("cli11/[>=2.1.2]")
        if self.options.view:  # kindred-view and kindred-top
            self.requires("elfutils/[>=0.186]")
            self.requires("ncurses/[>=6.2]")

    def generate(self):
        toolchain = CMakeToolchain(self)
        if self.options.view:
            # The charts of the page, built into kindred-view.
            folder = os.path.join(self.build_folder, "chart.js")
            get(self, "https://registry.npmjs.org/chart.js/-/chart.js-4.4.9.tgz", destination=folder, strip_root=True,
                sha256="2af62960ba6c9a8b459be41e7911a030eb68f4375ea6a3e0f513ef5dbb0f0aca")
            toolchain.cache_variables["KINDRED_CHART_JS"] = os.path.join(folder, "dist", "chart.umd.js")
            PkgConfigDeps(self).generate()
        toolchain.cache_variables.update(KINDRED_TESTS=False, KINDRED_EXAMPLES=False, KINDRED_INSTALL=True,
                                         KINDRED_TOOLS=bool(self.options.tools or self.options.view),
                                         KINDRED_VIEW="ON" if self.options.view else "OFF")
        toolchain.generate()
        CMakeDeps(self).generate()

    def build(self):
        cmake = CMake(self)
        cmake.configure()
        cmake.build()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", src=self.source_folder, dst=os.path.join(self.package_folder, "licenses"))

    # The package's own CMake configuration is the one that is used; this describes the same to other build systems.
    def package_info(self):
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs.append(os.path.join("lib", "cmake", "kindred"))
        self.cpp_info.set_property("pkg_config_name", "none")
        self.cpp_info.libs = ["kindred_pool", "kindred_log", "kindred_context"]
        self.cpp_info.system_libs = ["pthread", "dl"]
