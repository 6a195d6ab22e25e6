#include "linux/handover.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

#include "kindred/error.hpp"
#include "kindred/internal/descriptor.hpp"

namespace kindred::internal {
namespace {

constexpr int all_seals = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
constexpr off_t max_bytes = 1 << 20;

}  // namespace

void execute_as_node(const std::string& program, const std::string& options) {
  Descriptor memory{::memfd_create("kindred-node", MFD_ALLOW_SEALING)};  // it is to outlive the exec
  if (!memory) throw SystemError{"memfd_create", errno, "handing the options to the program"};
  if (::write(memory.get(), options.data(), options.size()) != static_cast<ssize_t>(options.size()) ||
      ::fcntl(memory.get(), F_ADD_SEALS, all_seals) != 0)
    throw SystemError{"write", errno, "handing the options to the program"};
  ::setenv(node_variable, std::to_string(memory.get()).c_str(), 1);
  std::string name = program;
  std::string mark = node_argument;
  std::array<char*, 3> arguments{name.data(), mark.data(), nullptr};
  ::execvp(name.c_str(), arguments.data());
  throw SystemError{"execvp", errno, "starting " + program};
}

std::string take_node_options(int descriptor) {
  struct stat status{};
  // Sealed memory, as only kindred-node leaves it: not whatever file happens to have this number.
  if (descriptor < 3 || ::fcntl(descriptor, F_GET_SEALS) != all_seals || ::fstat(descriptor, &status) != 0 ||
      status.st_size > max_bytes)
    throw UsageError{"has the marks of a node, but not the options that kindred-node leaves"};
  Descriptor memory{descriptor};
  std::string text(static_cast<std::size_t>(status.st_size), '\0');
  if (::pread(memory.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size()))
    throw UsageError{"has the marks of a node, but its options cannot be read"};
  return text;
}

std::string host_name() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) return {};
  std::string text = name.data();
  text.resize(std::min<std::size_t>(text.find('.'), text.size()));
  return text;
}

}  // namespace kindred::internal
