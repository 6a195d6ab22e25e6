#include "stacks.hpp"

#include <cxxabi.h>
#include <elfutils/libdwfl.h>

#include <cstdlib>
#include <filesystem>
#include <future>
#include <memory>

#include <fmt/format.h>

#include "kindred/error.hpp"
#include "linux/traced_process.hpp"

namespace kindred::view {
namespace {

constexpr std::size_t max_frames = 128;

struct EndDwfl {
  void operator()(Dwfl* dwfl) const noexcept { dwfl_end(dwfl); }
};

std::string demangled(const char* name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text{abi::__cxa_demangle(name, nullptr, nullptr, &status),
                                                         &std::free};
  return status == 0 && text ? std::string{text.get()} : std::string{name};
}

int take_frame(Dwfl_Frame* state, void* target) {
  auto& addresses = *static_cast<std::vector<std::uint64_t>*>(target);
  Dwarf_Addr address = 0;
  bool is_activation = false;
  if (!dwfl_frame_pc(state, &address, &is_activation)) return DWARF_CB_ABORT;
  // A return address is behind its call, which may be the last instruction of the function.
  addresses.push_back(address - (is_activation ? 0 : 1));
  return addresses.size() < max_frames ? DWARF_CB_OK : DWARF_CB_ABORT;
}

StackFrame named(Dwfl* dwfl, std::uint64_t address) {
  StackFrame frame;
  frame.address = address;
  Dwfl_Module* const module = dwfl_addrmodule(dwfl, address);
  if (module == nullptr) return frame;
  if (const char* const name = dwfl_module_addrname(module, address); name != nullptr)
    frame.function = demangled(name);
  if (const char* const path =
          dwfl_module_info(module, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr);
      path != nullptr)
    frame.module = path;
  Dwfl_Line* const line = dwfl_module_getsrc(module, address);
  int number = 0;
  if (line == nullptr) return frame;
  const char* const file = dwfl_lineinfo(line, nullptr, &number, nullptr, nullptr, nullptr);
  if (file != nullptr)
    frame.place = fmt::format("{}:{}", std::filesystem::path{file}.filename().string(), number);
  return frame;
}

std::vector<ThreadStack> walk_stacks(std::uint32_t pid) {
  static const Dwfl_Callbacks callbacks{.find_elf = dwfl_linux_proc_find_elf,
                                        .find_debuginfo = dwfl_standard_find_debuginfo,
                                        .section_address = nullptr,
                                        .debuginfo_path = nullptr};
  const std::unique_ptr<Dwfl, EndDwfl> dwfl{dwfl_begin(&callbacks)};
  const auto refuse = [&](int error) {
    throw SystemError{"reading the memory map", error > 0 ? error : 0,
                      fmt::format("reading the stacks of pid {}", pid),
                      "The process may have ended, or be another user's."};
  };
  if (!dwfl) refuse(ENOMEM);
  if (const int error = dwfl_linux_proc_report(dwfl.get(), static_cast<pid_t>(pid)); error != 0)
    refuse(error);
  dwfl_report_end(dwfl.get(), nullptr, nullptr);
  // Before the process is stopped: finding the unwind tables takes the longest.
  if (const int error = dwfl_linux_proc_attach(dwfl.get(), static_cast<pid_t>(pid), true); error != 0)
    refuse(error);
  std::vector<ThreadStack> stacks;
  std::vector<std::vector<std::uint64_t>> addresses;
  {
    const TracedProcess stopped{pid};
    for (const auto tid : stopped.threads()) {
      stacks.push_back({.tid = tid, .name = {}, .frames = {}});
      addresses.emplace_back();
      static_cast<void>(
          dwfl_getthread_frames(dwfl.get(), static_cast<pid_t>(tid), take_frame, &addresses.back()));
    }
  }
  for (std::size_t i = 0; i < stacks.size(); ++i) {
    stacks[i].name = thread_name(pid, stacks[i].tid);
    for (const auto address : addresses[i]) stacks[i].frames.push_back(named(dwfl.get(), address));
  }
  return stacks;
}

}  // namespace

std::vector<ThreadStack> stacks_of(std::uint32_t pid) {
  // On a thread of its own: the kernel lets go all that a thread holds still when that thread ends.
  return std::async(std::launch::async, [&] { return walk_stacks(pid); }).get();
}

}  // namespace kindred::view
