#include "kindred/internal/code_reference.hpp"
#include "kindred/internal/modules.hpp"

#include <dlfcn.h>
#include <link.h>

#include <algorithm>
#include <string>
#include <utility>

#include "kindred/error.hpp"

namespace kindred::internal {

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
  const std::size_t index = code_module(reference);
  const std::scoped_lock lock{mutex_};
  if (index == 0 || index > modules_.size()) return nullptr;
  return reinterpret_cast<const void*>(modules_[index - 1].base + code_offset(reference));
}

void CodeMap::add(std::size_t index, Module as_in_parent, bool load) {
  if (entries_.size() <= index) entries_.resize(index + 1);
  entries_[index] = {.wanted = std::move(as_in_parent), .load = load, .known = false, .base = 0, .size = 0};
}

bool CodeMap::knows(CodeReference reference) const noexcept {
  const std::size_t index = code_module(reference);
  return index != 0 && index <= entries_.size() && !entries_[index - 1].wanted.path.empty();
}

void* CodeMap::resolve(CodeReference reference) {
  const std::size_t index = code_module(reference);
  if (!knows(reference))
    throw UsageError{"a call names code in library number " + std::to_string(index) +
                     ", of which this worker was never told."};
  Entry& entry = entries_[index - 1];
  if (!entry.known) {
    const auto adopt = [&entry](const Module& module) {
      if (module.build_id != entry.wanted.build_id) {
        throw UsageError{"the code of this task is in " + entry.wanted.path + " with build id " +
                         entry.wanted.build() + " in the parent, and this worker has " + module.path +
                         " with build id " + module.build() +
                         ". The file was replaced while the program ran: restart the program."};
      }
      entry.base = module.base;
      entry.size = module.end - module.base;
      entry.known = true;
    };
    const auto modules = loaded_modules();
    for (std::size_t i = 0; i < modules.size() && !entry.known; ++i) {
      if (index == 1 ? i == 0 : modules[i].file() == entry.wanted.file()) adopt(modules[i]);
    }
    std::string problem;
    if (!entry.known && entry.load) {
      link_map* loaded = nullptr;
      void* const library = ::dlopen(entry.wanted.path.c_str(), RTLD_NOW | RTLD_LOCAL);
      if (library == nullptr || ::dlinfo(library, RTLD_DI_LINKMAP, static_cast<void*>(&loaded)) != 0) {
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
  const CodeReference offset = code_offset(reference);
  if (offset >= entry.size)
    throw UsageError{"a call names code beyond the end of " + entry.wanted.path + "."};
  return reinterpret_cast<void*>(entry.base + offset);
}

}  // namespace kindred::internal
