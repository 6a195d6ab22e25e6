// Names of code: what no symbol tells is told as file and offset, and nothing is read that is not loaded.
#include <link.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <string>
#include <string_view>

#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/function_name.hpp"
#include "kindred/internal/modules.hpp"
#include "kindred/internal/stack_text.hpp"
#include "linux/symbol_table.hpp"
#include "support/test.hpp"

using namespace kindred::internal;
using kindred::test::read_file;
using kindred::test::TemporaryFolder;
using kindred::test::write_file;

namespace {

const int number = 3;
int function_with_a_name() { return number; }

}  // namespace

TEST_CASE("what is loaded is told from what is not, and data from code") {
  CHECK(is_loaded(&number, sizeof number, true));
  CHECK(is_loaded(reinterpret_cast<const void*>(&function_with_a_name), 1, false));
  CHECK_FALSE(is_loaded(reinterpret_cast<const void*>(&function_with_a_name), 1, true));
  CHECK_FALSE(is_loaded(nullptr, 1, false));
  CHECK_FALSE(is_loaded(&number, std::size_t{1} << 40U, false));
  CHECK_FALSE(is_loaded(&number, SIZE_MAX, false));
  const int local = 0;
  CHECK_FALSE(is_loaded(&local, sizeof local, false));
}

TEST_CASE("code is named by its symbol, and by file and offset") {
  const auto* const code = reinterpret_cast<const void*>(&function_with_a_name);
  CHECK_CONTAINS(function_name(code), "function_with_a_name");
  const auto program = loaded_modules().front();
  CHECK_CONTAINS(place_name(code), program.path.substr(program.path.rfind('/') + 1) + "+0x");
  CHECK(function_name(nullptr).empty());
  CHECK(place_name(nullptr).empty());
}

TEST_CASE("the symbols of the program have their functions, and no others") {
  const SymbolTable table{"/proc/self/exe"};
  REQUIRE_FALSE(table.unread());
  const auto offset = reinterpret_cast<std::uintptr_t>(&function_with_a_name) - loaded_modules().front().base;
  CHECK_CONTAINS(std::string{table.find(offset)}, "function_with_a_name");
  CHECK(table.find(0).empty());
  CHECK(table.find(UINTPTR_MAX).empty());
}

TEST_CASE("a file without symbols is read, and one that is not there is not") {
  CHECK(SymbolTable{"/etc/passwd"}.find(1).empty());
  CHECK_FALSE(SymbolTable{"/etc/passwd"}.unread());
  CHECK(SymbolTable{"/nowhere"}.unread());
}

TEST_CASE("of a library that is cut off or damaged, nothing is read that is not in the file") {
  auto modules = loaded_modules();
  const Module library = *std::ranges::min_element(
      modules, {}, [](const Module& module) { return std::filesystem::file_size(module.path); });
  CAPTURE(library.path);
  const std::string whole = read_file(library.path);
  const TemporaryFolder folder;
  // The first function of the library, by name.
  const auto first_in = [&](const std::string& bytes) {
    const auto path = folder / "damaged";
    write_file(path, bytes);
    const SymbolTable table{path};
    std::string_view name;
    for (std::uintptr_t at = 0; at < library.end - library.begin && name.empty(); at += 4)
      name = table.find(at);
    return std::string{name};
  };
  REQUIRE_FALSE(first_in(whole).empty());
  // The sections are told at the end of the file.
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{63}, std::size_t{64}, whole.size() / 2})
    CHECK(first_in(whole.substr(0, bytes)).empty());
  // Each byte of the ELF header, and of the table of sections, at its largest.
  ElfW(Ehdr) header;
  std::memcpy(&header, whole.data(), sizeof header);
  const auto damage = [&](std::size_t at) {
    std::string damaged = whole;
    damaged.at(at) = '\xff';
    (void)first_in(damaged);
  };
  for (std::size_t at = 0; at < sizeof header; ++at) damage(at);
  for (std::size_t at = header.e_shoff; at < whole.size(); at += 7) damage(at);
}

TEST_CASE("a stack for people begins with what the program did") {
  CHECK(first_of_program("parse\nmain") == "parse");
  CHECK(first_of_program("memcpy in /lib/libc.so.6\nparse") == "memcpy in /lib/libc.so.6, called by parse");
  CHECK(first_of_program("memcpy in /lib/libc.so.6") == "memcpy in /lib/libc.so.6");
  CodeBook code;
  const std::array frames{code.reference(reinterpret_cast<const void*>(&function_with_a_name)),
                          CodeReference{0}};
  CHECK_CONTAINS(name_frames(frames, code), "function_with_a_name");
  // A worker has written them: a module that is not there, and an offset beyond its module.
  const std::array wrong{CodeReference{0xffff} << code_module_shift,
                         CodeReference{1} << code_module_shift | 0xffff'ffff'ffff};
  CHECK_FALSE(name_frames(wrong, code).empty());
}
