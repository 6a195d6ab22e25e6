#include "kindred/internal/context_id.hpp"

#include <atomic>

#include "kindred/error.hpp"
#include "kindred/internal/context_life.hpp"
#include "kindred/internal/this_process.hpp"

namespace kindred::internal {

ContextId ContextId::make(StartMethod method) noexcept {
  static std::atomic<std::uint32_t> next_serial{1};
  const auto serial = next_serial.fetch_add(1, std::memory_order_relaxed);
  return {(static_cast<std::uint64_t>(process_id()) << 32U) | ((serial & 0x3fffffffU) << 2U) |
          static_cast<std::uint64_t>(method)};
}

std::string to_string(ContextId id) {
  if (!id) return "no context";
  return "context " + std::to_string(id.serial()) + " (" +
         std::string{kindred::to_string(id.start_method())} + ", of pid " + std::to_string(id.owner_pid()) +
         ")";
}

void throw_foreign_handle(const char* what, ContextId handle, ContextId here) {
  std::string place;
  if (here) {
    place = "was used in " + to_string(here);
  } else {
    place = "was used in pid " + std::to_string(process_id()) + ", which works for " +
            to_string(served_context());
  }
  throw UsageError{
      std::string{"this "} + what + " belongs to " + to_string(handle) + " and " + place +
      ". A handle works in its executor's process, while the executor lives, and in that executor's workers: make it "
      "with the executor that is to use it, and pass it as an argument of submit or of the initializer."};
}

}  // namespace kindred::internal
