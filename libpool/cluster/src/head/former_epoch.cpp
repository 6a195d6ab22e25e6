#include "head/former_epoch.hpp"

#include <algorithm>

namespace kindred::internal::cluster {
namespace {

constexpr Time ask_again = std::chrono::seconds{1};

}  // namespace

void FormerEpoch::begin(Time now, Epoch epoch, Feeds feeds, Time until) {
  // If the epoch has changed twice in a row, the older one of the two is no longer read.
  unfollow();
  epoch_ = epoch;
  feeds_ = feeds;
  until_ = std::max(now, until);
  for (const StreamKind kind : {StreamKind::tasks, StreamKind::results, StreamKind::log, StreamKind::blobs})
    removals_.try_emplace({kind, epoch});
}

void FormerEpoch::unfollow() {
  for (const Ticket feed : {feeds_.results, feeds_.log}) {
    if (feed != 0) engine_.unfollow(feed);
  }
  feeds_ = {};
}

void FormerEpoch::tick(Time now) {
  if (removals_.empty() || now < until_) return;
  unfollow();
  for (auto& [stream, removal] : removals_) {
    if (removal.asked != 0 && now - removal.asked_at < ask_again) continue;
    removal.asked = tickets_.next();
    removal.asked_at = now;
    engine_.remove(removal.asked, stream);
  }
}

bool FormerEpoch::on_answer(const Answer& answer) {
  const auto found =
      std::ranges::find_if(removals_, [&](const auto& each) { return each.second.asked == answer.ticket; });
  if (found == removals_.end()) return false;
  if (answer.how == Answer::How::done || answer.how == Answer::How::missing) removals_.erase(found);
  return true;
}

}  // namespace kindred::internal::cluster
