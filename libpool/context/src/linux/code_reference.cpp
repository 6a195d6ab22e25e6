#include "kindred/internal/code_reference.hpp"

#include <cxxabi.h>
#include <dlfcn.h>
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <unordered_map>

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

// The same file, as far as a path tells: the dynamic linker may know it by different links in two processes.
std::string_view file_name(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string name_build(const std::string& id) { return id.empty() ? "none (link with -Wl,--build-id)" : id; }

constexpr CodeReference offset_mask = (CodeReference{1} << code_module_shift) - 1;

}  // namespace

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

CodeBook::CodeBook() : modules_{loaded_modules()} {
  const Module& program = modules_.front();
  program_base_ = program.base;
  program_begin_ = program.begin;
  program_end_ = program.end;
}

CodeReference CodeBook::reference_in_library(std::uintptr_t at) {
  const std::scoped_lock lock{mutex_};
  for (int attempt = 0; attempt < 2; ++attempt) {
    // Newest first: a library that was closed may have left its addresses to another one.
    for (std::size_t i = modules_.size(); i-- > 0;) {
      if (at >= modules_[i].begin && at < modules_[i].end)
        return (static_cast<CodeReference>(i + 1) << code_module_shift) | (at - modules_[i].base);
    }
    for (Module& module : loaded_modules()) {
      const bool known = std::ranges::any_of(modules_, [&](const Module& other) {
        return other.begin == module.begin && other.path == module.path;
      });
      if (!known) modules_.push_back(std::move(module));
    }
  }
  throw UsageError{"the function at " + std::to_string(at) +
                   " is in no loaded program or library, so no worker can find it. "
                   "Submit a function of the program, or of a shared library."};
}

std::size_t CodeBook::size() const {
  const std::scoped_lock lock{mutex_};
  return modules_.size();
}

Module CodeBook::module(std::size_t index) const {
  const std::scoped_lock lock{mutex_};
  return modules_.at(index);
}

const void* CodeBook::address(CodeReference reference) const {
  const std::size_t index = reference >> code_module_shift;
  const std::scoped_lock lock{mutex_};
  if (index == 0 || index > modules_.size()) return nullptr;
  return reinterpret_cast<const void*>(modules_[index - 1].base + (reference & offset_mask));
}

void CodeMap::add(std::size_t index, Module as_in_parent, bool load) {
  if (entries_.size() <= index) entries_.resize(index + 1);
  entries_[index] = {.wanted = std::move(as_in_parent), .load = load, .known = false, .base = 0, .size = 0};
}

bool CodeMap::knows(CodeReference reference) const noexcept {
  const std::size_t index = reference >> code_module_shift;
  return index != 0 && index <= entries_.size() && !entries_[index - 1].wanted.path.empty();
}

void* CodeMap::resolve(CodeReference reference) {
  const std::size_t index = reference >> code_module_shift;
  if (!knows(reference))
    throw UsageError{"a call names code in library number " + std::to_string(index) +
                     ", of which this worker was never told."};
  Entry& entry = entries_[index - 1];
  if (!entry.known) {
    const auto adopt = [&entry](const Module& module) {
      if (module.build_id != entry.wanted.build_id) {
        throw UsageError{"the code of this task is in " + entry.wanted.path + " with build id " +
                         name_build(entry.wanted.build_id) + " in the parent, and this worker has " +
                         module.path + " with build id " + name_build(module.build_id) +
                         ". The file was replaced while the program ran: restart the program."};
      }
      entry.base = module.base;
      entry.size = module.end - module.base;
      entry.known = true;
    };
    const auto modules = loaded_modules();
    for (std::size_t i = 0; i < modules.size() && !entry.known; ++i) {
      if (index == 1 ? i == 0 : file_name(modules[i].path) == file_name(entry.wanted.path)) adopt(modules[i]);
    }
    std::string problem;
    if (!entry.known && entry.load) {
      link_map* loaded = nullptr;
      void* const library = ::dlopen(entry.wanted.path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (library == nullptr || ::dlinfo(library, RTLD_DI_LINKMAP, &loaded) != 0) {
        const char* const text = ::dlerror();
        problem = text == nullptr ? "no reason was given" : text;
      } else {
        // By its place: the file may be loaded already under another name.
        for (const Module& module : loaded_modules()) {
          if (module.base == loaded->l_addr) adopt(module);
        }
      }
    }
    if (!entry.known) {
      throw UsageError{
          "the code of this task is in the shared library " + entry.wanted.path +
          ", which the parent has loaded and this worker has not. Load it in the initializer too, link the program with it, "
          "or set WorkerOptions::load_libraries" +
          (problem.empty() ? "." : " (it is set, but loading failed: " + problem + ").")};
    }
  }
  const CodeReference offset = reference & offset_mask;
  if (offset >= entry.size)
    throw UsageError{"a call names code beyond the end of " + entry.wanted.path + "."};
  return reinterpret_cast<void*>(entry.base + offset);
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
          name_build(theirs.build_id) + " in the parent and " + name_build(mine[j].build_id) +
          " in the worker just started: the file was replaced while the program ran. Restart the program."};
    }
  }
}

namespace {

// The function symbols of one ELF file, sorted by address: read once, on the first error or log record that
// asks for a name.
class SymbolTable {
 public:
  explicit SymbolTable(const std::string& path) {
    const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    struct stat status{};
    if (!file || ::fstat(file.get(), &status) != 0 || status.st_size < static_cast<off_t>(sizeof(ElfW(Ehdr))))
      return;
    const auto size = static_cast<std::size_t>(status.st_size);
    void* const mapped = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (mapped == MAP_FAILED) return;
    read({static_cast<const unsigned char*>(mapped), size});
    has_none_ = symbols_.empty();
    ::munmap(mapped, size);
  }

  [[nodiscard]] bool empty() const noexcept {
    return symbols_.empty() && !has_none_;
  }  ///< it could not be read: for want of a descriptor, say
  [[nodiscard]] std::string find(std::uintptr_t offset) const {
    auto after = std::upper_bound(symbols_.begin(), symbols_.end(), offset,
                                  [](std::uintptr_t at, const Symbol& s) { return at < s.begin; });
    if (after == symbols_.begin()) return {};
    --after;
    return offset < after->end ? after->name : std::string{};
  }

 private:
  struct Symbol {
    std::uintptr_t begin;
    std::uintptr_t end;
    std::string name;
  };

  void read(std::span<const unsigned char> file) {
    ElfW(Ehdr) header;
    std::memcpy(&header, file.data(), sizeof header);
    if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_shentsize != sizeof(ElfW(Shdr))) return;
    const auto section = [&](std::size_t index, ElfW(Shdr) & out) {
      const std::size_t at = header.e_shoff + index * sizeof(ElfW(Shdr));
      if (at > file.size() || file.size() - at < sizeof out) return false;
      std::memcpy(&out, file.data() + at, sizeof out);
      return out.sh_type == SHT_NOBITS ||
             (out.sh_offset <= file.size() && out.sh_size <= file.size() - out.sh_offset);
    };
    for (const auto type : {SHT_SYMTAB, SHT_DYNSYM}) {
      for (std::size_t i = 0; i < header.e_shnum; ++i) {
        ElfW(Shdr) symbols;
        ElfW(Shdr) strings;
        if (!section(i, symbols) || symbols.sh_type != static_cast<ElfW(Word)>(type) ||
            !section(symbols.sh_link, strings))
          continue;
        for (std::size_t at = 0; at + sizeof(ElfW(Sym)) <= symbols.sh_size; at += sizeof(ElfW(Sym))) {
          ElfW(Sym) symbol;
          std::memcpy(&symbol, file.data() + symbols.sh_offset + at, sizeof symbol);
          if ((symbol.st_info & 15U) != STT_FUNC || symbol.st_value == 0 || symbol.st_name >= strings.sh_size)
            continue;
          const auto* const text =
              reinterpret_cast<const char*>(file.data() + strings.sh_offset + symbol.st_name);
          symbols_.push_back({symbol.st_value, symbol.st_value + std::max<std::uintptr_t>(symbol.st_size, 1),
                              std::string{text, ::strnlen(text, strings.sh_size - symbol.st_name)}});
        }
      }
      if (!symbols_.empty()) break;
    }
    std::sort(symbols_.begin(), symbols_.end(),
              [](const Symbol& a, const Symbol& b) { return a.begin < b.begin; });
  }

  std::vector<Symbol> symbols_;
  bool has_none_ = false;
};

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

}  // namespace

namespace {

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
      if (!table || table->empty())
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

namespace {

// The part of a demangled name that names the function: without the type that a template's name begins with.
std::string_view own_name(std::string_view name) {
  int depth = 0;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const char byte = name[i];
    if (byte == '<' || byte == '(' || byte == '{') ++depth;
    if ((byte == '>' || byte == ')' || byte == '}') && depth > 0) --depth;
    if (byte == ' ' && depth == 0 && !name.substr(begin, i - begin).ends_with("operator")) begin = i + 1;
  }
  return name.substr(begin);
}

bool begins_with_one_of(std::string_view name, std::span<const std::string_view> beginnings) {
  return std::ranges::any_of(beginnings, [&](std::string_view each) { return name.starts_with(each); });
}

// Does the frame only lead from kindred's loop, or the system's start of a thread, to the program's code?
bool is_plumbing(std::string_view name) {
  constexpr std::array<std::string_view, 10> leads{
      "kindred::internal::", "std::__invoke",  "std::invoke",       "std::__apply_impl",   "std::apply",
      "std::_Function_",     "std::function<", "std::thread::_Inv", "std::thread::_State", "std::__detail::"};
  constexpr std::array<std::string_view, 6> starts{
      "__libc_start_main", "__libc_start_call_main", "_start", "start_thread", "clone3", "__clone"};
  return begins_with_one_of(own_name(name), leads) || std::ranges::find(starts, name) != starts.end();
}

// How the C library delivers a signal that the program raises itself.
bool raises_a_signal(std::string_view name) {
  constexpr std::array<std::string_view, 6> ways{
      "raise",         "gsignal", "pthread_kill", "__pthread_kill_implementation", "__pthread_kill_internal",
      "__pthread_kill"};
  return name.empty() || std::ranges::find(ways, name) != ways.end();
}

bool is_task_entry(std::string_view name) {
  return name.starts_with("kindred::internal::EntryOf") || name.starts_with("kindred::internal::ChunkEntry");
}

// "kindred::internal::EntryOf<main::{lambda(int)#1}, int>::run" -> "main::{lambda(int)#1}": a task that was
// compiled into its entry.
std::string task_of_entry(const std::string& name) {
  std::size_t begin = name.find('<');
  if (begin == std::string::npos) return name;
  ++begin;
  for (const std::string_view flag : {"false, ", "true, "}) {
    if (std::string_view{name}.substr(begin).starts_with(flag)) begin += flag.size();
  }
  int depth = 0;
  for (std::size_t i = begin; i < name.size(); ++i) {
    const char byte = name[i];
    if (depth == 0 && (byte == ',' || byte == '>')) return name.substr(begin, i - begin);
    if (byte == '<' || byte == '(' || byte == '{') ++depth;
    if (byte == '>' || byte == ')' || byte == '}') --depth;
  }
  return name;
}

struct NamedFrame {
  std::string name;  // empty: no symbol table has it
  std::size_t module = 0;
  CodeReference reference = 0;
};

std::string frame_text(const NamedFrame& frame, const CodeBook& code) {
  std::string text = frame.name;
  if (text.empty()) {
    std::array<char, 32> offset{};
    std::snprintf(offset.data(), offset.size(), "0x%llx",
                  static_cast<unsigned long long>(frame.reference & offset_mask));
    text = offset.data();
  }
  if (frame.module > 1 && frame.module <= code.size()) text += " in " + code.module(frame.module - 1).path;
  return text;
}

// The frames of the stack that help to find a fault in the program.
std::vector<NamedFrame> without_plumbing(const std::vector<NamedFrame>& all) {
  std::vector<NamedFrame> kept;
  bool raising = true;
  for (const NamedFrame& frame : all) {
    raising = raising && frame.module != 1 && raises_a_signal(frame.name);
    if (!raising && !is_plumbing(frame.name)) kept.push_back(frame);
  }
  return kept;
}

}  // namespace

std::string name_frames(std::span<const CodeReference> frames, const CodeBook& code) {
  std::vector<NamedFrame> all;
  for (const CodeReference reference : frames) {
    const void* const at = code.address(reference);
    NamedFrame frame{at == nullptr ? std::string{} : function_name(at),
                     static_cast<std::size_t>(reference >> code_module_shift), reference};
    const bool entry = is_task_entry(frame.name);
    // From the entry on out it is ours. As the first of the program, the task was compiled into it.
    if (entry && std::ranges::any_of(all, [](const NamedFrame& inner) {
          return inner.module == 1 && !is_plumbing(inner.name);
        }))
      break;
    if (entry) {
      frame.name = task_of_entry(frame.name);
      // A task that is given by its address has a frame of its own, in a library perhaps; its entry names a
      // type.
      const bool names_a_type = frame.name.find("(*)") != std::string::npos;
      if (names_a_type &&
          std::ranges::any_of(all, [](const NamedFrame& inner) { return !is_plumbing(inner.name); }))
        break;
    }
    all.push_back(std::move(frame));
    if (entry) break;
  }
  const auto kept = without_plumbing(all);
  std::string text;
  for (const NamedFrame& frame : kept.empty() ? all : kept) {
    if (!text.empty()) text += '\n';
    text += frame_text(frame, code);
  }
  return text;
}

std::string first_of_program(std::string_view stack) {
  const std::string first{stack.substr(0, stack.find('\n'))};
  for (std::string_view rest = stack; !rest.empty();) {
    const auto end = rest.find('\n');
    const std::string_view line = rest.substr(0, end);
    rest = end == std::string_view::npos ? std::string_view{} : rest.substr(end + 1);
    if (line.find(" in /") != std::string_view::npos) continue;
    return line == first ? first : first + ", called by " + std::string{line};
  }
  return first;
}

std::string place_name(const void* address) {
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  for (const Module& module : loaded_modules()) {
    if (at < module.begin || at >= module.end) continue;
    std::array<char, 32> offset{};
    std::snprintf(offset.data(), offset.size(), "+0x%llx", static_cast<unsigned long long>(at - module.base));
    return std::string{file_name(module.path)} + offset.data();
  }
  return {};
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
