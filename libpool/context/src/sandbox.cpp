#include "kindred/sandbox.hpp"

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "kindred/error.hpp"
#include "kindred/internal/sandbox_plan.hpp"

namespace kindred {
namespace {

constexpr std::array<std::string_view, 3> layers{"landlock", "seccomp", "signal_scope"};
constexpr std::uint64_t least_memory = 1U << 20U;

void check_paths(const std::vector<std::string>& paths, const std::string& option) {
  for (const std::string& path : paths) {
    std::error_code problem;
    if (path.empty() || path.find('\0') != std::string::npos)
      throw UsageError{"Sandbox::" + option +
                       " holds an empty path, or one with a zero byte. Name files and folders."};
    if (!std::filesystem::exists(path, problem))
      throw UsageError{
          "Sandbox::" + option + " names '" + path + "', which " +
          (problem ? "cannot be looked at: " + problem.message() : std::string{"does not exist"}) +
          ". Name files and folders that exist when the executor is made."};
  }
}

}  // namespace

Sandbox Sandbox::compute() { return {}; }

Sandbox Sandbox::files(std::vector<std::string> read, std::vector<std::string> write) {
  return {.read = std::move(read), .write = std::move(write)};
}

void Sandbox::validate() const {
  check_paths(read, "read");
  check_paths(write, "write");
  if (memory_bytes != 0 && memory_bytes < least_memory)
    throw UsageError{"Sandbox::memory_bytes is " + std::to_string(memory_bytes) +
                     ". Use at least 1 MiB (1048576), or 0 for no limit."};
  for (const std::string& name : waive) {
    if (std::ranges::find(layers, name) != layers.end()) continue;
    throw UsageError{
        "Sandbox::waive names '" + name +
        "', which is no layer of the sandbox. Use \"landlock\", \"seccomp\" or \"signal_scope\"."};
  }
}

namespace internal {
namespace {

using landlock::all_file_rights;

void write_text(Encoder& out, std::string_view text) {
  out.write_value<std::uint64_t>(text.size());
  out.write(text.data(), text.size());
}

std::string read_text(Decoder& in) {
  const auto bytes = in.take(in.read_count(1));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void write_program(Encoder& out, const FilterProgram& program) {
  out.write_value<std::uint64_t>(program.size());
  out.write(program.data(), program.size() * sizeof(std::uint64_t));
}

FilterProgram read_program(Decoder& in) {
  FilterProgram program(in.read_count(sizeof(std::uint64_t)));
  in.read(program.data(), program.size() * sizeof(std::uint64_t));
  return program;
}

// Which option allows a call that is refused.
struct OptionOfCalls {
  std::array<std::string_view, 5> calls;
  std::string_view mend;
};
constexpr std::array<OptionOfCalls, 3> options_of_calls{
    {{{"socket", "connect", "bind", "listen", "accept4"},
      "Sandbox::network allows internet sockets: socket, connect, bind, listen and accept."},
     {{"fork", "vfork", "clone", "pidfd_open", ""}, "Sandbox::processes allows to start processes."},
     {{"execve", "execveat", "", "", ""},
      "Sandbox::exec allows to execute programs that Sandbox::read names."}}};

bool waives(const Sandbox& sandbox, std::string_view layer) {
  return std::ranges::find(sandbox.waive, layer) != sandbox.waive.end();
}

void require_landlock(const SandboxPlatform& platform) {
  throw SystemError{
      "landlock_create_ruleset", platform.landlock_error, "making WorkerOptions::sandbox",
      "Landlock keeps workers away from files. It needs Linux 5.13 with 'landlock' among its security "
      "modules (the boot parameter lsm=), and a container that does not refuse the call. To do "
      "without it, name it: .waive = {\"landlock\"}."};
}

void require_seccomp(const SandboxPlatform& platform) {
  if (platform.seccomp_error != 0)
    throw SystemError{
        "seccomp", platform.seccomp_error, "making WorkerOptions::sandbox",
        "A filter keeps workers from system calls that reach other processes. It needs a kernel built "
        "with CONFIG_SECCOMP_FILTER. To do without it, name it: .waive = {\"seccomp\"}."};
  throw UsageError{
      "WorkerOptions::sandbox is set, and this build of kindred has no libseccomp, which makes the filter of system "
      "calls. Install libseccomp-dev and build kindred anew, or do without the filter by name: .waive = {\"seccomp\"}."};
}

void add_paths(SandboxPlan& plan, const Sandbox& sandbox, std::uint64_t handled) {
  using namespace landlock;
  const std::uint64_t reads = (read_file | read_folder | (sandbox.exec ? execute : 0)) & handled;
  const std::uint64_t changes =
      reads |
      ((write_file | remove_folder | remove_file | make_folder | make_file | refer | truncate) & handled);
  const auto add = [&](const std::string& path, std::uint64_t rights, bool must_exist) {
    plan.paths.push_back({std::filesystem::absolute(path).string(), rights, must_exist});
  };
  for (const std::string& path : sandbox.read) add(path, reads, true);
  for (const std::string& path : sandbox.write) add(path, changes, true);
  // What each program may have, and what kindred's own part of a worker reads: how much memory it has and
  // there is.
  for (const char* const path : {"/dev/null", "/dev/zero"})
    add(path, (read_file | write_file | truncate) & handled, false);
  for (const char* const path :
       {"/dev/random", "/dev/urandom", "/proc/meminfo", "/proc/self/statm", "/proc/self/cgroup"})
    add(path, read_file & handled, false);
}

}  // namespace

std::uint64_t landlock::all_file_rights(int abi) noexcept {
  std::uint64_t rights = (std::uint64_t{1} << 13U) - 1;
  if (abi >= 2) rights |= refer;
  if (abi >= 3) rights |= truncate;
  if (abi >= 5) rights |= device_ioctl;
  return rights;
}

SandboxPlan make_sandbox_plan(const Sandbox& sandbox, const SandboxPlatform& platform) {
  SandboxPlan plan;
  const int abi = platform.landlock_abi;
  if (abi == 0 && !waives(sandbox, "landlock")) require_landlock(platform);
  if (!platform.has_seccomp && !waives(sandbox, "seccomp")) require_seccomp(platform);
  const bool bounds_signals = abi >= 6;
  if (sandbox.processes && !bounds_signals && !waives(sandbox, "signal_scope")) {
    throw UsageError{
        "Sandbox::processes is set, and this kernel cannot bound where the signals of several processes go: that is "
        "Landlock's ABI 6 (Linux 6.12), and here it is ABI " +
        std::to_string(abi) +
        ". Leave processes off, or accept by name that they may signal the worker only, not each other or themselves "
        "(abort, raise): .waive = {\"signal_scope\"}."};
  }
  if (abi > 0) {
    plan.landlock = true;
    plan.handled_files = all_file_rights(abi);
    if (abi >= 4 && !sandbox.network) plan.handled_network = landlock::bind_tcp | landlock::connect_tcp;
    if (abi >= 6) plan.scopes = landlock::scope_abstract_sockets | landlock::scope_signals;
    add_paths(plan, sandbox, plan.handled_files);
  }
  if (platform.has_seccomp) {
    auto filters = make_sandbox_filters(sandbox, !(sandbox.processes && bounds_signals), abi);
    plan.refusals = std::move(filters.refusals);
    plan.calls = std::move(filters.calls);
    plan.refuses_forks = !sandbox.processes;
  }
  plan.memory_bytes = sandbox.memory_bytes;
  plan.limits_file_size = sandbox.write.empty();
  plan.own_namespaces = platform.has_namespaces && !sandbox.network && !sandbox.after_initializer;
  plan.after_initializer = sandbox.after_initializer;
  return plan;
}

SandboxPlan plan_sandbox(const Sandbox& sandbox) {
  sandbox.validate();
  auto plan = make_sandbox_plan(sandbox, sandbox_platform(!sandbox.network && !sandbox.after_initializer));
  try_sandbox_plan(plan);
  return plan;
}

std::string describe(const SandboxPlan& plan) {
  std::string text = "workers are sandboxed: no_new_privs, no capabilities";
  text += plan.landlock ? ", Landlock (files" : ", WITHOUT Landlock (waived): files are open to them";
  if (plan.handled_network != 0) text += ", TCP";
  if ((plan.scopes & landlock::scope_signals) != 0) text += ", signals, abstract sockets";
  if (plan.landlock) text += ")";
  text += plan.calls.empty() ? ", WITHOUT seccomp (waived): system calls are not filtered" : ", seccomp";
  text += plan.own_namespaces ? ", own user and network namespace" : ", no namespaces of their own";
  if (plan.memory_bytes != 0)
    text += ", " + std::to_string(plan.memory_bytes) + " bytes of address space by RLIMIT_AS";
  text += plan.groups.empty() ? ", no control groups (" + plan.why_no_groups + ")"
                              : std::string{", a control group each"} +
                                    (plan.memory_bytes != 0 ? " (memory, processes and threads)"
                                                            : " (processes and threads)");
  text += plan.after_initializer ? "; closed after the initializer" : "; closed before the first call";
  return text;
}

std::string sandbox_violation(int system_call) {
  if (system_call < 0)
    return "It made a bad system call: the sandbox forbids it. Which call is not known, because SIGSYS was blocked (as "
           "posix_spawn, system and popen do around theirs: Sandbox::processes allows to start processes), or because "
           "it was a 32-bit call.";
  const std::string name = system_call_name(system_call);
  std::string text = "It made the bad system call `" + name + "`: the sandbox forbids it.";
  for (const OptionOfCalls& option : options_of_calls) {
    if (std::ranges::find(option.calls, name) != option.calls.end()) text += " " + std::string{option.mend};
  }
  return text;
}

void write_sandbox_plan(Encoder& out, const SandboxPlan& plan) {
  out.write_value<std::uint64_t>(plan.paths.size());
  for (const SandboxPath& path : plan.paths) {
    write_text(out, path.path);
    out.write_value(path.rights);
    out.write_value<std::uint8_t>(path.must_exist ? 1 : 0);
  }
  out.write_value(plan.handled_files);
  out.write_value(plan.handled_network);
  out.write_value(plan.scopes);
  write_program(out, plan.refusals);
  write_program(out, plan.calls);
  out.write_value(plan.memory_bytes);
  for (const bool flag : {plan.limits_file_size, plan.landlock, plan.drops_capabilities, plan.own_namespaces,
                          plan.after_initializer, plan.refuses_forks})
    out.write_value<std::uint8_t>(flag ? 1 : 0);
  write_text(out, plan.groups);
}

SandboxPlan read_sandbox_plan(Decoder& in) {
  SandboxPlan plan;
  for (auto left = in.read_count(17); left > 0; --left) {
    SandboxPath& path = plan.paths.emplace_back();
    path.path = read_text(in);
    path.rights = in.read_value<std::uint64_t>();
    path.must_exist = in.read_value<std::uint8_t>() != 0;
  }
  plan.handled_files = in.read_value<std::uint64_t>();
  plan.handled_network = in.read_value<std::uint64_t>();
  plan.scopes = in.read_value<std::uint64_t>();
  plan.refusals = read_program(in);
  plan.calls = read_program(in);
  plan.memory_bytes = in.read_value<std::uint64_t>();
  for (bool* const flag : {&plan.limits_file_size, &plan.landlock, &plan.drops_capabilities,
                           &plan.own_namespaces, &plan.after_initializer, &plan.refuses_forks})
    *flag = in.read_value<std::uint8_t>() != 0;
  plan.groups = read_text(in);
  return plan;
}

}  // namespace internal
}  // namespace kindred
