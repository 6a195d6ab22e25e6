#include "symbol_table.hpp"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "kindred/internal/descriptor.hpp"

namespace kindred::internal {
namespace {

// The sections of an ELF file that may be damaged: no part is read that does not lie in the file.
class Sections {
 public:
  explicit Sections(std::span<const unsigned char> file) : file_{file} {
    if (file.size() < sizeof header_) return;
    std::memcpy(&header_, file.data(), sizeof header_);
    valid_ = std::memcmp(header_.e_ident, ELFMAG, SELFMAG) == 0 && header_.e_shentsize == sizeof(ElfW(Shdr));
  }
  [[nodiscard]] std::optional<ElfW(Shdr)> at(std::size_t index) const {
    const std::size_t begin = header_.e_shoff + index * sizeof(ElfW(Shdr));
    ElfW(Shdr) section;
    if (!valid_ || begin > file_.size() || file_.size() - begin < sizeof section) return std::nullopt;
    std::memcpy(&section, file_.data() + begin, sizeof section);
    const bool inside = section.sh_type != SHT_NOBITS && section.sh_offset <= file_.size() &&
                        section.sh_size <= file_.size() - section.sh_offset;
    return inside ? std::optional{section} : std::nullopt;
  }
  /// The first of this type.
  [[nodiscard]] std::optional<ElfW(Shdr)> of(ElfW(Word) type) const {
    for (std::size_t i = 0; valid_ && i < header_.e_shnum; ++i) {
      if (const auto section = at(i); section && section->sh_type == type) return section;
    }
    return std::nullopt;
  }
  [[nodiscard]] std::span<const unsigned char> bytes(const ElfW(Shdr) & section) const {
    return file_.subspan(section.sh_offset, section.sh_size);
  }

 private:
  std::span<const unsigned char> file_;
  ElfW(Ehdr) header_ {};
  bool valid_ = false;
};

}  // namespace

SymbolTable::SymbolTable(const std::string& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  struct stat status{};
  if (!file || ::fstat(file.get(), &status) != 0) return;
  const auto size = static_cast<std::size_t>(status.st_size);
  void* const mapped = size == 0 ? MAP_FAILED : ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (mapped == MAP_FAILED) return;
  read({static_cast<const unsigned char*>(mapped), size});
  read_ = true;
  ::munmap(mapped, size);
}

void SymbolTable::read(std::span<const unsigned char> file) {
  const Sections sections{file};
  for (const auto type : {ElfW(Word){SHT_SYMTAB}, ElfW(Word){SHT_DYNSYM}}) {
    const auto table = sections.of(type);
    const auto names = table ? sections.at(table->sh_link) : std::nullopt;
    if (!names) continue;
    const auto text = sections.bytes(*names);
    const auto symbols = sections.bytes(*table);
    symbols_.reserve(symbols.size() / sizeof(ElfW(Sym)));
    for (std::size_t at = 0; symbols.size() - at >= sizeof(ElfW(Sym)); at += sizeof(ElfW(Sym))) {
      ElfW(Sym) symbol;
      std::memcpy(&symbol, symbols.data() + at, sizeof symbol);
      if (ELF64_ST_TYPE(symbol.st_info) != STT_FUNC || symbol.st_value == 0 || symbol.st_name >= text.size())
        continue;
      symbols_.push_back(
          {symbol.st_value, symbol.st_value + std::max<std::uintptr_t>(symbol.st_size, 1), symbol.st_name});
    }
    if (symbols_.empty()) continue;
    names_.assign(reinterpret_cast<const char*>(text.data()), text.size());
    break;
  }
  std::ranges::sort(symbols_, {}, &Symbol::begin);
}

std::string_view SymbolTable::find(std::uintptr_t offset) const {
  auto after = std::ranges::upper_bound(symbols_, offset, {}, &Symbol::begin);
  if (after == symbols_.begin()) return {};
  --after;
  return offset < after->end ? std::string_view{names_.c_str() + after->name} : std::string_view{};
}

}  // namespace kindred::internal
