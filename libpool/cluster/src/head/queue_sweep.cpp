#include "head/queue_sweep.hpp"

#include <algorithm>

namespace kindred::internal::cluster {

void QueueSweep::note_outages(Time now, Time lease, std::uint64_t outages) {
  if (std::exchange(outages_, outages) == outages) return;
  forget();
  due_ = now + lease;
}

void QueueSweep::forget() noexcept {
  due_.reset();
  target_.reset();
  whole_ = false;
  asked_.clear();
}

void QueueSweep::begin(Time now, std::uint64_t stored) noexcept {
  if (target_) return;
  target_ = stored;
  begun_at_ = now;
}

void QueueSweep::sweep(Time now, Time lease, Epoch epoch, std::optional<std::uint64_t> lowest) {
  due_ = now + (lowest ? lease : lease / 4);
  if (!lowest || !target_) return;
  const std::uint64_t up_to = std::min(*lowest - 1, *target_);
  whole_ = up_to == *target_;
  if (up_to == 0) {
    if (whole_) forget();
    return;
  }
  asked_.clear();  // what was not answered within a lease is asked again
  for (const char priority : {'h', 'm', 'l'}) {
    const Ticket ticket = tickets_.next();
    asked_.insert(ticket);
    engine_.erase_at(ticket, {{StreamKind::tasks, epoch}, build_ + "." + priority + "." + job_}, up_to);
  }
}

bool QueueSweep::on_answer(const Answer& answer) {
  if (!asked_.contains(answer.ticket)) return false;
  if (answer.how != Answer::How::done) return true;  // asked again after a lease
  asked_.erase(answer.ticket);
  if (asked_.empty() && whole_) forget();
  return true;
}

}  // namespace kindred::internal::cluster
