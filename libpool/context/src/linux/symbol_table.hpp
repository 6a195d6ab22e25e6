#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace kindred::internal {

/// The function symbols of one ELF file. Reading them takes a few allocations, whatever their number.
class SymbolTable {
 public:
  /// Reads the file. Where it cannot be opened (for want of a descriptor, say), the table is `unread`.
  explicit SymbolTable(const std::string& path);
  [[nodiscard]] bool unread() const noexcept { return !read_; }
  /// The mangled name of the function at this offset from the load base; empty where no symbol covers it. It
  /// lives as long as the table.
  [[nodiscard]] std::string_view find(std::uintptr_t offset) const;

 private:
  struct Symbol {
    std::uintptr_t begin;
    std::uintptr_t end;
    std::size_t name;  // where it begins in `names_`
  };
  void read(std::span<const unsigned char> file);

  bool read_ = false;
  std::vector<Symbol> symbols_;  // by address
  std::string names_;            // the file's string table, and a zero
};

}  // namespace kindred::internal
