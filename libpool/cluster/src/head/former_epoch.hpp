#pragma once

#include <map>

#include "engine/engine.hpp"
#include "engine/tickets.hpp"

namespace kindred::internal::cluster {

/// The epoch before the present one. Its store may be whole: then results and records that were stored there
/// just before are still read. After a while its streams are removed from the server, because nothing else
/// ever removes them.
///
/// Threads: one at a time; `now` is an argument.
class FormerEpoch {
 public:
  FormerEpoch(Engine& engine, Tickets& tickets) : engine_{engine}, tickets_{tickets} {}

  struct Feeds {
    Ticket results = 0;
    Ticket log = 0;
  };
  /// `feeds`: of that epoch, which go on until `until`; 0: there are none.
  void begin(Time now, Epoch epoch, Feeds feeds, Time until);
  [[nodiscard]] Epoch epoch() const noexcept { return epoch_; }
  /// Is it still read?
  [[nodiscard]] bool is_read() const noexcept { return feeds_.results != 0; }
  [[nodiscard]] bool has_feed(Ticket feed) const noexcept {
    return feed != 0 && (feed == feeds_.results || feed == feeds_.log);
  }
  void tick(Time now);
  /// False: the answer is not for this.
  bool on_answer(const Answer& answer);
  void unfollow();

 private:
  struct Removal {
    Ticket asked = 0;
    Time asked_at{0};
  };
  Engine& engine_;
  Tickets& tickets_;
  Epoch epoch_ = 0;
  Feeds feeds_;
  Time until_{0};
  std::map<Stream, Removal> removals_;
};

}  // namespace kindred::internal::cluster
