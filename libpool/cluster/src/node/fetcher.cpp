#include "node/fetcher.hpp"

#include <algorithm>
#include <utility>

namespace kindred::internal::cluster {
namespace {

using namespace std::chrono_literals;

constexpr std::array<char, 3> classes = {'h', 'm', 'l'};
constexpr Time wait_time = 2s;         ///< at an empty queue
constexpr Time patience = 1500ms;      ///< beyond it, for the answer
constexpr Time after_missing = 100ms;  ///< the queue is not there yet
constexpr std::size_t max_at_once = 512;

}  // namespace

void Fetcher::restart() noexcept {
  pulls_ = {};
  empty_ = {};
  got_ = 0;
}

void Fetcher::take(Time now, std::size_t index, Epoch epoch, std::size_t room, Time wait) {
  Pull& pull = pulls_[index];
  pull.state = wait > Time{0} ? State::waiting : State::asked;
  pull.ticket = tickets_.next();
  pull.until = now + wait + patience;
  got_ = 0;
  engine_.take(pull.ticket, {epoch, build_, classes[index]}, std::min(room, max_at_once), wait);
}

void Fetcher::tick(Time now, Epoch epoch, std::size_t room) {
  for (Pull& pull : pulls_) {
    if (pull.state != State::unknown && now >= pull.until) pull = {};  // the question or its answer was lost
  }
  if (epoch == 0 || room == 0 || now < not_before_) return;
  for (std::size_t i = 0; i < pulls_.size(); ++i) {
    if (pulls_[i].state == State::waiting) continue;
    if (pulls_[i].state == State::asked) return;
    if (!std::exchange(empty_[i], false)) {
      take(now, i, epoch, room, Time{0});
      return;
    }
    // Most tasks are of the middle class. Of another class one task is taken, and then all classes are looked
    // at again.
    take(now, i, epoch, classes[i] == 'm' ? room : 1, wait_time);
  }
}

bool Fetcher::on_answer(Time now, const Answer& answer) {
  const auto pull = std::ranges::find(pulls_, answer.ticket, &Pull::ticket);
  if (pull == pulls_.end()) return false;
  if (pull->state == State::asked)
    empty_[static_cast<std::size_t>(pull - pulls_.begin())] = answer.how == Answer::How::done && got_ == 0;
  *pull = {};
  if (answer.how != Answer::How::done) not_before_ = now + after_missing;
  return true;
}

Time Fetcher::next_due(std::size_t room) const noexcept {
  Time due = Time::max();
  for (const Pull& pull : pulls_) {
    if (pull.state != State::unknown)
      due = std::min(due, pull.until);
    else if (room != 0)
      due = std::min(due, not_before_);
    if (pull.state == State::asked) break;
  }
  return due;
}

}  // namespace kindred::internal::cluster
