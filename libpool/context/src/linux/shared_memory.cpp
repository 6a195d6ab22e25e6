#include "kindred/internal/shared_memory.hpp"

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <atomic>
#include <boost/interprocess/exceptions.hpp>
#include <cerrno>
#include <cstdint>
#include <string>
#include <thread>

#include "kindred/error.hpp"
#include "kindred/internal/injection.hpp"
#include "linux/available_memory.hpp"

#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

namespace kindred::internal {
namespace {

namespace ipc = boost::interprocess;

// What boost::interprocess::mapped_region asks of a thing that it can map.
struct Mappable {
  int fd;
  [[nodiscard]] ipc::mapping_handle_t get_mapping_handle() const { return {fd, false}; }
};

std::size_t round_to_pages(std::size_t bytes) {
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return bytes == 0 ? page : (bytes + page - 1) / page * page;
}

ipc::mapped_region map(int fd, std::size_t bytes, ipc::mode_t mode) {
  try {
    return ipc::mapped_region{Mappable{fd}, mode, 0, bytes};
  } catch (const ipc::interprocess_exception& error) {
    throw SystemError{"mmap", error.get_native_error(),
                      "mapping " + std::to_string(bytes) + " bytes of shared memory"};
  }
}

/// Are so many bytes to be had of this memory? The last of it is left to what keeps the machine alive.
bool is_enough(std::uint64_t memory, std::size_t bytes) noexcept { return bytes <= memory - memory / 16; }

/// Returns what memory can be had. Where `bytes` are not, although the machine has as many, it waits for
/// others to give some back.
std::uint64_t memory_for(std::size_t bytes, std::chrono::milliseconds patience) {
  constexpr std::chrono::milliseconds between_looks{20};
  std::uint64_t available = available_memory();
  if (is_enough(available, bytes) || patience == patience.zero() || !is_enough(memory_in_all(), bytes))
    return available;
  const auto until = std::chrono::steady_clock::now() + patience;
  while (!is_enough(available, bytes) && std::chrono::steady_clock::now() < until) {
    std::this_thread::sleep_for(between_looks);
    available = available_memory();
  }
  return available;
}

// Allocated now: were it not, a full memory would be a SIGBUS at the first touch. And asked for first: a
// memfd has no file system whose size would limit it, so the kernel would sooner kill processes than refuse.
// Piece by piece, because others take memory meanwhile.
void allocate(int fd, std::size_t size, const std::string& doing, std::chrono::milliseconds patience) {
  // The limit on file sizes holds for memory too, and would be told by a signal that ends the program.
  rlimit file_size{};
  if (::getrlimit(RLIMIT_FSIZE, &file_size) == 0 && file_size.rlim_cur != RLIM_INFINITY &&
      size > file_size.rlim_cur) {
    throw SystemError{"fallocate", EFBIG,
                      doing + ", where RLIMIT_FSIZE allows " + std::to_string(file_size.rlim_cur)};
  }
  constexpr std::size_t too_small_to_ask = std::size_t{4} << 20U;
  constexpr std::size_t piece = std::size_t{256} << 20U;
  for (std::size_t done = 0; done < size;) {
    const std::size_t left = size - done;
    if (size > too_small_to_ask) {
      const std::uint64_t available = memory_for(left, patience);
      if (!is_enough(available, left)) {
        throw SystemError{"fallocate", ENOMEM,
                          doing + ", of which " + std::to_string(left) + " were missing and " +
                              std::to_string(available) + " to be had"};
      }
    }
    const std::size_t now = left < piece ? left : piece;
    const int result = ::fallocate(fd, 0, static_cast<off_t>(done), static_cast<off_t>(now));
    if (result == 0) {
      done += now;
    } else if (errno != EINTR) {
      throw SystemError{"fallocate", errno, doing};
    }
  }
}

}  // namespace

SharedMemory SharedMemory::create(const char* name, std::size_t bytes, std::chrono::milliseconds patience) {
  const auto size = round_to_pages(bytes);
  const std::string doing = "making " + std::to_string(size) + " bytes of shared memory";
  SharedMemory memory;
  memory.fd_ = Descriptor{
      KINDRED_INJECTION_FAILS("fail.memfd") ? -1 : ::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING)};
  if (!memory.fd_) throw SystemError{"memfd_create", errno, doing};
  allocate(memory.fd_.get(), size, doing, patience);
  if (::fcntl(memory.fd_.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0) {
    throw SystemError{"fcntl(F_ADD_SEALS)", errno, doing};
  }
  memory.region_ = map(memory.fd_.get(), size, ipc::read_write);
  return memory;
}

SharedMemory SharedMemory::adopt(Descriptor fd, std::size_t at_least_bytes, Access access) {
  const int seals = ::fcntl(fd.get(), F_GET_SEALS);
  if (seals < 0 || (seals & F_SEAL_SHRINK) == 0) {
    throw UsageError{
        "a descriptor that came as shared memory is not sealed against shrinking, so reading it could crash this process. "
        "Only memory made by kindred is taken."};
  }
  // Huge pages can be taken out of it again, seals or not, and the next look at them would be a SIGBUS here.
  struct statfs kind{};
  if (::fstatfs(fd.get(), &kind) != 0 || kind.f_type != TMPFS_MAGIC) {
    throw UsageError{
        "a descriptor that came as shared memory is of another kind (huge pages, or a file), so reading it could crash this process. "
        "Only memory made by kindred is taken."};
  }
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0)
    throw SystemError{"fstat", errno, "reading the size of a shared memory"};
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size < at_least_bytes || size == 0) {
    throw UsageError{"a shared memory of " + std::to_string(at_least_bytes) +
                     " bytes was announced, and one of " + std::to_string(size) + " bytes came."};
  }
  // A hole would be filled when it is read, or, where memory is short then, be a SIGBUS in this process.
  // (st_blocks counts 512 bytes.)
  if (static_cast<std::size_t>(status.st_blocks) * 512 < size) {
    throw UsageError{"a shared memory of " + std::to_string(size) + " bytes came of which " +
                     std::to_string(static_cast<std::size_t>(status.st_blocks) * 512) +
                     " are allocated. Only memory made by kindred is taken."};
  }
  const bool read_only = access == Access::read_only || (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0;
  SharedMemory memory;
  memory.region_ = map(fd.get(), size, read_only ? ipc::read_only : ipc::read_write);
  memory.fd_ = std::move(fd);
  return memory;
}

void map_pages_of(std::span<std::byte> memory, bool for_writing) noexcept {
  // Linux 5.14; before it the pages come one by one, as they did.
  constexpr int populate_read = 22;
  constexpr int populate_write = 23;
  ::madvise(memory.data(), memory.size(), for_writing ? populate_write : populate_read);
}

void SharedMemory::map_pages(bool for_writing) const noexcept {
  if (!std::atomic_ref{pages_mapped_}.exchange(true, std::memory_order_relaxed))
    map_pages_of(bytes(), for_writing);
}

void SharedMemory::keep_out_of_forks() const noexcept {
  ::madvise(region_.get_address(), region_.get_size(), MADV_DONTFORK);
}

void SharedMemory::seal_writes() {
  const int seals = ::fcntl(fd_.get(), F_GET_SEALS);
  if (seals >= 0 && (seals & F_SEAL_FUTURE_WRITE) != 0) return;
  if (::fcntl(fd_.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE) != 0) {
    throw SystemError{"fcntl(F_ADD_SEALS, F_SEAL_FUTURE_WRITE)", errno,
                      "sealing a shared memory against writers", "Linux 5.1 or later is needed."};
  }
}

}  // namespace kindred::internal
