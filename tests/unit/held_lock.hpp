#pragma once

#include <cstdint>

#include "task/pool_guard.hpp"

namespace kindred::test {

/// A pool's lock, held for as long as this lives, for what takes a `Locked`.
struct HeldLock {
  kindred::internal::CallbackRunner callbacks;
  kindred::internal::PoolMutex mutex{false, callbacks, [](std::uint64_t) {}};
  kindred::internal::PoolGuard guard{mutex};

  operator kindred::internal::Locked() const noexcept {
    return guard;
  }  // NOLINT: passed where a token is wanted
};

}  // namespace kindred::test
