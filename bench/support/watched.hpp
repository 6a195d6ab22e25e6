#pragma once

#include <chrono>
#include <optional>
#include <string>

#include <kindred/internal/clock.hpp>
#include <kindred/internal/tail_client.hpp>
#include <kindred/internal/this_process.hpp>
#include <kindred/kindred.hpp>

#include "support/bench.hpp"

namespace bench {

/// Has the only pool of this process looked at, as kindred-view does, or traced: `--watched 1`,
/// `--trace FILE`.
class Watched {
 public:
  Watched(kindred::ProcessPoolExecutor& pool, const Options& options) {
    if (const auto path = options.text("trace", ""); !path.empty()) pool.trace(path);
    if (options.number("watched", 0) == 0) return;
    using namespace kindred::internal;
    for (const auto& name : door_names()) {
      if (name.pid == process_id())
        visitor_ = connect_to_pool(name, std::chrono::steady_clock::now() + std::chrono::seconds{5});
    }
    if (!visitor_) fail("the pool is not offered");
    TailRequest request;
    request.ask = "pool";
    ask_pool(*visitor_, request);
    PoolAnswers answers{visitor_->socket};
    if (!answers.next(std::chrono::steady_clock::now() + std::chrono::seconds{5}))
      fail("the pool says nothing");
  }

 private:
  std::optional<kindred::internal::DoorPool> visitor_;  // it takes no more than the first look
};

}  // namespace bench
