#include "kindred/internal/stack_bounds.hpp"

#include <pthread.h>

#include <cstddef>
#include <cstdint>

namespace kindred::internal {
namespace {

struct StackBounds {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
};
constinit thread_local StackBounds bounds;

StackBounds find_bounds() noexcept {
  StackBounds found{.begin = 0, .end = 1};  // asked once, also where there is no answer
  pthread_attr_t attributes;
  if (::pthread_getattr_np(::pthread_self(), &attributes) != 0) return found;
  void* begin = nullptr;
  std::size_t bytes = 0;
  if (::pthread_attr_getstack(&attributes, &begin, &bytes) == 0) {
    found.begin = reinterpret_cast<std::uintptr_t>(begin);
    found.end = found.begin + bytes;
  }
  ::pthread_attr_destroy(&attributes);
  return found;
}

}  // namespace

bool is_on_this_stack(const void* address) noexcept {
  if (bounds.end == 0) bounds = find_bounds();
  const auto at = reinterpret_cast<std::uintptr_t>(address);
  return at >= bounds.begin && at < bounds.end;
}

}  // namespace kindred::internal
