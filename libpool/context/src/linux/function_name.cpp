#include "kindred/internal/function_name.hpp"

#include <cxxabi.h>
#include <link.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "kindred/internal/modules.hpp"
#include "kindred/internal/process.hpp"
#include "linux/symbol_table.hpp"

namespace kindred::internal {
namespace {

// "ns::area(double)" -> "ns::area"; the parameters are the last bracketed group, which templates and
// operator() may precede.
std::string without_parameters(std::string name) {
  // What the demangler says of the library's string type, "[abi:cxx11]", is no part of a function's name.
  for (auto tag = name.find("[abi:"); tag != std::string::npos; tag = name.find("[abi:", tag)) {
    const auto end = name.find(']', tag);
    if (end == std::string::npos) break;
    name.erase(tag, end - tag + 1);
  }
  if (const auto clone = name.find(" [clone"); clone != std::string::npos) name.resize(clone);
  while (name.ends_with(" const") || name.ends_with("&"))
    name.resize(name.size() - (name.ends_with("&") ? 1 : 6));
  if (!name.ends_with(')')) return name;
  int depth = 0;
  for (std::size_t i = name.size(); i-- > 0;) {
    if (name[i] == ')') ++depth;
    if (name[i] == '(' && --depth == 0) {
      name.resize(i);
      break;
    }
  }
  return name;
}

// How often the dynamic linker has loaded or unloaded a library: names that were found before may be wrong
// after that.
std::uint64_t library_changes() noexcept {
  std::uint64_t changes = 0;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        *static_cast<std::uint64_t*>(out) = info->dlpi_adds + info->dlpi_subs;
        return 1;
      },
      &changes);
  return changes;
}

// Names by address, for the libraries that are loaded now. To look one up in the symbol tables takes
// thousands of instructions, and a pool that cancels a million tasks asks for the same few names.
class KnownNames {
 public:
  [[nodiscard]] const std::string* find(std::uintptr_t at, std::uint64_t changes) {
    if (changes != changes_) {
      names_.clear();
      changes_ = changes;
    }
    const auto found = names_.find(at);
    return found == names_.end() ? nullptr : &found->second;
  }
  void add(std::uintptr_t at, std::uint64_t changes, const std::string& name) {
    constexpr std::size_t max_names = 4096;
    if (changes != changes_ || names_.size() >= max_names) return;
    names_.emplace(at, name);
  }

 private:
  std::unordered_map<std::uintptr_t, std::string> names_;
  std::uint64_t changes_ = 0;
};

std::string find_function_name(std::uintptr_t at) {
  static std::mutex mutex;
  static std::unordered_map<std::string, std::unique_ptr<SymbolTable>> tables;
  for (const Module& module : loaded_modules()) {
    if (at < module.begin || at >= module.end) continue;
    std::string name;
    {
      const std::scoped_lock lock{mutex};
      auto& table = tables[module.path];
      // The running program may have been replaced or deleted on disk: its inode is still there under
      // /proc/self/exe.
      if (!table || table->unread())
        table =
            std::make_unique<SymbolTable>(module.path == executable_path() ? "/proc/self/exe" : module.path);
      name = table->find(at - module.base);
    }
    if (name.empty()) return {};
    int status = 0;
    const std::unique_ptr<char, void (*)(void*)> demangled{
        abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status), std::free};
    return status == 0 && demangled ? without_parameters(demangled.get()) : name;
  }
  return {};
}

}  // namespace

std::string function_name(const void* address) {
  static std::mutex mutex;
  static KnownNames known;
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  const auto changes = library_changes();
  {
    const std::scoped_lock lock{mutex};
    if (const std::string* const name = known.find(at, changes)) return *name;
  }
  std::string name = find_function_name(at);
  // Nothing found may mean that the file could not be opened just now.
  if (!name.empty()) {
    const std::scoped_lock lock{mutex};
    known.add(at, changes, name);
  }
  return name;
}

std::string place_name(const void* address) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  for (const Module& module : loaded_modules()) {
    if (at < module.begin || at >= module.end) continue;
    std::array<char, 32> offset{};
    std::snprintf(offset.data(), offset.size(), "+0x%llx", static_cast<unsigned long long>(at - module.base));
    return std::string{module.file()} + offset.data();
  }
  return {};
}

}  // namespace kindred::internal
