#pragma once

#include "engine/engine.hpp"

namespace kindred::internal::cluster {

/// Gives each question of one process a number of its own. Threads: one at a time.
class Tickets {
 public:
  [[nodiscard]] Ticket next() noexcept { return ++last_; }

 private:
  Ticket last_ = 0;
};

}  // namespace kindred::internal::cluster
