#include "kindred/internal/modules.hpp"

#include <link.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <string_view>

#include "kindred/error.hpp"
#include "kindred/internal/process.hpp"

namespace kindred::internal {
namespace {

std::string to_hex(std::span<const unsigned char> bytes) {
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += digits[byte >> 4U];
    text += digits[byte & 15U];
  }
  return text;
}

std::string build_id_of(const dl_phdr_info& info) {
  for (std::size_t i = 0; i < info.dlpi_phnum; ++i) {
    const auto& segment = info.dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const auto* at = reinterpret_cast<const unsigned char*>(info.dlpi_addr + segment.p_vaddr);
    const auto* const end = at + segment.p_memsz;
    const std::size_t alignment = segment.p_align == 8 ? 8 : 4;
    while (at + sizeof(ElfW(Nhdr)) <= end) {
      ElfW(Nhdr) note;
      std::memcpy(&note, at, sizeof note);
      const auto* const name = at + sizeof note;
      const auto* const content = name + (note.n_namesz + alignment - 1) / alignment * alignment;
      if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(name, "GNU", 4) == 0)
        return to_hex({content, note.n_descsz});
      at = content + (note.n_descsz + alignment - 1) / alignment * alignment;
    }
  }
  return {};
}

Module describe(const dl_phdr_info& info, bool program) {
  Module module;
  module.path = program ? executable_path() : std::string{info.dlpi_name};
  module.build_id = build_id_of(info);
  module.base = info.dlpi_addr;
  module.begin = UINTPTR_MAX;
  for (std::size_t i = 0; i < info.dlpi_phnum; ++i) {
    const auto& segment = info.dlpi_phdr[i];
    if (segment.p_type != PT_LOAD) continue;
    module.begin = std::min<std::uintptr_t>(module.begin, info.dlpi_addr + segment.p_vaddr);
    module.end = std::max<std::uintptr_t>(module.end, info.dlpi_addr + segment.p_vaddr + segment.p_memsz);
  }
  return module;
}

}  // namespace

std::string_view Module::file() const noexcept {
  const auto slash = path.rfind('/');
  return slash == std::string::npos ? path : std::string_view{path}.substr(slash + 1);
}

std::string Module::build() const { return build_id.empty() ? "none (link with -Wl,--build-id)" : build_id; }

std::vector<Module> loaded_modules() {
  std::vector<Module> modules;
  ::dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        auto& list = *static_cast<std::vector<Module>*>(out);
        // The first is the program; the one that is in no file is the kernel's vdso.
        if (list.empty() || (info->dlpi_name != nullptr && *info->dlpi_name == '/'))
          list.push_back(describe(*info, list.empty()));
        return 0;
      },
      &modules);
  return modules;
}

bool copy_constant(const void* from, void* to, std::size_t bytes) noexcept {
  struct Wanted {
    std::uintptr_t begin;
    void* to;
    std::size_t bytes;
  } wanted{reinterpret_cast<std::uintptr_t>(from), to, bytes};
  // Copied while the linker's list is locked, so that no module goes away meanwhile.
  const auto copy = [](dl_phdr_info* info, std::size_t, void* argument) {
    const auto& want = *static_cast<const Wanted*>(argument);
    for (std::size_t i = 0; i < info->dlpi_phnum; ++i) {
      const auto& segment = info->dlpi_phdr[i];
      const bool constant =
          (segment.p_type == PT_LOAD && (segment.p_flags & PF_R) != 0 && (segment.p_flags & PF_W) == 0) ||
          segment.p_type == PT_GNU_RELRO;
      const std::uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
      if (!constant || want.begin < begin || want.begin - begin > segment.p_memsz ||
          want.bytes > segment.p_memsz - (want.begin - begin))
        continue;
      std::memcpy(want.to, reinterpret_cast<const void*>(want.begin), want.bytes);
      return 1;
    }
    return 0;
  };
  return bytes == 0 || ::dl_iterate_phdr(copy, &wanted) == 1;
}

void compare_builds(const std::vector<Module>& parents) {
  const auto mine = loaded_modules();
  for (std::size_t i = 0; i < parents.size(); ++i) {
    const Module& theirs = parents[i];
    for (std::size_t j = 0; j < mine.size(); ++j) {
      const bool same_place = i == 0 || j == 0 ? i == j : mine[j].path == theirs.path;
      if (!same_place || mine[j].build_id == theirs.build_id) continue;
      throw UsageError{
          std::string{i == 0 ? "the program " : "the shared library "} + theirs.path + " has build id " +
          theirs.build() + " in the parent and " + mine[j].build() +
          " in the worker just started: the file was replaced while the program ran. Restart the program."};
    }
  }
}

bool is_loaded(const void* at, std::size_t bytes, bool data_only) noexcept {
  struct Range {
    std::uintptr_t begin;
    std::size_t bytes;
    bool data_only;
  } range{reinterpret_cast<std::uintptr_t>(at), bytes, data_only};
  return ::dl_iterate_phdr(
             [](dl_phdr_info* info, std::size_t, void* argument) {
               const auto& wanted = *static_cast<const Range*>(argument);
               for (std::size_t i = 0; i < info->dlpi_phnum; ++i) {
                 const auto& segment = info->dlpi_phdr[i];
                 if (segment.p_type != PT_LOAD || (segment.p_flags & PF_R) == 0 ||
                     (wanted.data_only && (segment.p_flags & PF_X) != 0))
                   continue;
                 const std::uintptr_t begin = info->dlpi_addr + segment.p_vaddr;
                 if (wanted.begin >= begin && wanted.begin - begin <= segment.p_memsz &&
                     wanted.bytes <= segment.p_memsz - (wanted.begin - begin))
                   return 1;
               }
               return 0;
             },
             &range) != 0;
}

}  // namespace kindred::internal
