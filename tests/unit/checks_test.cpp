// The checks on the sources themselves find what they are there to find.
#include <filesystem>
#include <string>

#include "support/test.hpp"

namespace test = kindred::test;

namespace {

class Tree {
 public:
  Tree& file(const std::string& path, const std::string& text) {
    const auto whole = std::filesystem::path{folder_ / path};
    std::filesystem::create_directories(whole.parent_path());
    test::write_file(whole.string(), text);
    return *this;
  }
  test::Outcome check(const std::string& name) const {
    return test::run_program(KINDRED_SOURCE_DIR "/tests/support/check_" + name, {folder_.path()});
  }

 private:
  test::TemporaryFolder folder_;
};

const std::string once = "#pragma once\n";

}  // namespace

TEST_CASE("an arrow from context to log is found") {
  Tree tree;
  tree.file("liblog/include/kindred/logger.hpp", once).file("libpool/context/include/kindred/x.hpp", once);
  tree.file("liblog/src/good.cpp", "#include \"kindred/x.hpp\"\n");
  CHECK(tree.check("layering").code == 0);
  tree.file("libpool/context/src/bad.cpp", "#include \"kindred/logger.hpp\"\n");
  const auto outcome = tree.check("layering");
  CHECK(outcome.code == 1);
  CHECK_CONTAINS(outcome.out, "libpool/context/src/bad.cpp:1: context must not know log: kindred/logger.hpp");
}

TEST_CASE("a system header outside its folder is found") {
  Tree tree;
  tree.file("libpool/context/src/linux/good.cpp", "#include <sys/mman.h>\n#include <unistd.h>\n");
  CHECK(tree.check("layering").code == 0);
  tree.file("liblog/src/bad.cpp", "#include <cstdio>\n#include <unistd.h>\n");
  CHECK_CONTAINS(tree.check("layering").out,
                 "liblog/src/bad.cpp:2: <unistd.h> belongs in libpool/context/src/linux/");
}

TEST_CASE(
    "another library's private header, spdlog in the wrong place and a header without #pragma once are found") {
  Tree tree;
  tree.file("libpool/context/src/private.hpp", "\n");
  tree.file("liblog/src/bad.cpp", "#include \"private.hpp\"\n#include <spdlog/spdlog.h>\n");
  const auto out = tree.check("layering").out;
  CHECK_CONTAINS(out, "liblog/src/bad.cpp:1: not of this library: \"private.hpp\"");
  CHECK_CONTAINS(out, "liblog/src/bad.cpp:2: <spdlog/spdlog.h>: spdlog: the sinks and the spdlog bridge");
  CHECK_CONTAINS(out, "libpool/context/src/private.hpp:1: no #pragma once");
}

TEST_CASE("a sample that is not the lines of its file is found") {
  Tree tree;
  tree.file("examples/one.cpp", "int main() {\n  int a = 1;\n  int b = 2;\n  return a + b;\n}\n");
  tree.file(
      "README.md",
      "Text\n```cpp examples/one.cpp\nint a = 1;\n// ...\nreturn a + b;\n```\n```sh\nnot checked\n```\n");
  const auto good = tree.check("samples");
  CHECK(good.code == 0);
  CHECK_CONTAINS(good.out, "1 samples");
  tree.file(
      "README.md",
      "```cpp examples/one.cpp\nint a = 2;\n```\n```cpp\nint c;\n```\n```cpp examples/two.cpp\nint d;\n```\n");
  const auto bad = tree.check("samples");
  CHECK(bad.code == 1);
  CHECK_CONTAINS(bad.out, "README.md:1: these lines are not in examples/one.cpp: 'int a = 2;'");
  CHECK_CONTAINS(bad.out, "README.md:4: the sample names no file");
  CHECK_CONTAINS(bad.out, "README.md:7: there is no examples/two.cpp");
}

TEST_CASE("what should not compile is refused for its own reason only") {
  const auto check = [&](const std::string& text) {
    test::TemporaryFolder folder;
    test::write_file(folder / "case.cpp", text);
    return test::run_program(KINDRED_SOURCE_DIR "/tests/compile_fail/check",
                             {folder / "case.cpp", "/usr/bin/c++", "-std=c++20"});
  };
  const std::string wrong =
      "#ifdef KINDRED_COMPILES\nint x;\n#else\nstatic_assert(false, \"too blue\");\n#endif\n";
  CHECK(check("// expect: too blue\n" + wrong).code == 0);
  CHECK_CONTAINS(check("// expect: too red\n" + wrong).out, "is refused, but not with the words: too red");
  CHECK_CONTAINS(check("// expect: too blue\nint x;\n").out, "compiles, and should not");
  CHECK_CONTAINS(
      check(
          "// expect: too blue\n#ifdef KINDRED_COMPILES\nnonsense\n#endif\nstatic_assert(false, \"too blue\");\n")
          .out,
      "with KINDRED_COMPILES should compile");
  CHECK_CONTAINS(check("static_assert(false, \"too blue\");\n").out, "has no line '// expect: TEXT'");
}
