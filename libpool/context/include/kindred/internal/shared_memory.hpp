#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>

#include <boost/interprocess/mapped_region.hpp>

#include "kindred/internal/descriptor.hpp"

namespace kindred::internal {

/// Maps the pages of some shared memory (from the begin of a page on) now, in one call, instead of by a fault
/// each (2 us) when they are touched.
void map_pages_of(std::span<std::byte> memory, bool for_writing) noexcept;

/// Anonymous shared memory: a memfd, allocated up front (so a full /dev/shm is an error here and never a
/// SIGBUS later), sealed against resizing, mapped once. Moves, does not copy.
class SharedMemory {
 public:
  SharedMemory() = default;
  /// Makes `bytes` (rounded up to pages) of zeroed memory. Errors: `SystemError` with the size and the limit
  /// to raise; where memory is short, not before `patience` is over, in which others may give some back.
  [[nodiscard]] static SharedMemory create(const char* name, std::size_t bytes,
                                           std::chrono::milliseconds patience = {});
  enum class Access { read_only, read_write };
  /// Maps what another process made. Checks the seals (no shrink), the true size and that all of it is
  /// allocated first: throws `SystemError` or, where the memory is not sealed, smaller than `at_least_bytes`
  /// or has holes, `UsageError`. What is sealed against writers is mapped read-only whatever `access` says.
  [[nodiscard]] static SharedMemory adopt(Descriptor fd, std::size_t at_least_bytes,
                                          Access access = Access::read_write);

  [[nodiscard]] std::span<std::byte> bytes() const noexcept {
    return {static_cast<std::byte*>(region_.get_address()), region_.get_size()};
  }
  [[nodiscard]] int fd() const noexcept { return fd_.get(); }
  [[nodiscard]] std::size_t size() const noexcept { return region_.get_size(); }
  void close_descriptor() noexcept { fd_.reset(); }  ///< the mapping stays
  void seal_writes();  ///< later mappings, in any process, are read-only (F_SEAL_FUTURE_WRITE); ours stays
                       ///< writable
  /// Once: `map_pages_of` all of it. For memory that will be filled or read whole.
  void map_pages(bool for_writing) const noexcept;
  void keep_out_of_forks() const noexcept;  ///< a plain fork of this process gets no copy of the mapping
  [[nodiscard]] bool writable() const noexcept {
    return region_.get_mode() == boost::interprocess::read_write;
  }  ///< our mapping
  explicit operator bool() const noexcept { return region_.get_size() != 0; }

 private:
  mutable bool pages_mapped_ = false;
  Descriptor fd_;
  boost::interprocess::mapped_region region_;
};

}  // namespace kindred::internal
