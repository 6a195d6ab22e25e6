#include "linux/small_file.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <array>

#include "kindred/internal/descriptor.hpp"

namespace kindred::internal {

std::string read_small_file(const std::string& path) {
  std::string text;
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (!file) return text;
  std::array<char, 4096> buffer{};
  for (ssize_t got = 0; (got = ::read(file.get(), buffer.data(), buffer.size())) > 0;)
    text.append(buffer.data(), static_cast<std::size_t>(got));
  return text;
}

}  // namespace kindred::internal
