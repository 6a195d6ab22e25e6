#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <system_error>

namespace kindred::internal {

/// Calls `act` with each number that is the name of an entry of `folder`, an open descriptor: the processes
/// of /proc, or the descriptors of /proc/self/fd, which come in the order of their numbers. Returns false
/// where the folder could not be read to its end. Allocates nothing, and is async-signal-safe.
template <std::size_t buffer_bytes, class Act>
bool for_each_numbered_entry(int folder, const Act& act) noexcept {
  struct Entry {  // linux_dirent64
    std::uint64_t inode;
    std::int64_t next;
    std::uint16_t bytes;
    std::uint8_t kind;
    char name[1];
  };
  alignas(Entry) std::array<char, buffer_bytes> buffer{};
  long got = 0;
  while ((got = ::syscall(SYS_getdents64, folder, buffer.data(), buffer.size())) > 0) {
    for (long at = 0; at < got;) {
      const auto* const entry = reinterpret_cast<const Entry*>(buffer.data() + at);
      at += entry->bytes;
      int number = 0;
      const char* const end = entry->name + std::strlen(entry->name);
      if (const auto [rest, problem] = std::from_chars(entry->name, end, number);
          problem == std::errc{} && rest == end)
        act(number);
    }
  }
  return got == 0;
}

}  // namespace kindred::internal
