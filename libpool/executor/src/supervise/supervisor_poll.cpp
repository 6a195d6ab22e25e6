#include "supervise/supervisor_poll.hpp"

#include <utility>

#include "kindred/internal/assert.hpp"

namespace kindred::internal {
namespace {

// A token names the incarnation, the slot, and which of its descriptors; or, below `token_slots`, one of the
// pool's.
//
//    63          32 31           2      1..0
//   +--------------+--------------+------------+
//   | incarnation  | slot + 4     | descriptor |
//   +--------------+--------------+------------+
enum : std::uint64_t { token_interrupt = 1, token_tail = 2, token_launcher = 3, token_slots = 16 };
constexpr unsigned incarnation_shift = 32;
constexpr std::uint64_t below_incarnation = (std::uint64_t{1} << incarnation_shift) - 1;
enum Descriptor : std::uint64_t { process = 0, socket = 1 };

std::uint64_t token_of(const WorkerSlot& slot, std::uint64_t descriptor) noexcept {
  return (std::uint64_t{slot.incarnation} << incarnation_shift) + token_slots +
         static_cast<std::uint64_t>(slot.index) * 4 + descriptor;
}

}  // namespace

void SupervisorPoll::begin(const SharedBell& bell, int interrupt, int tail) {
  auto poll = std::make_unique<EventPoll>(bell);
  if (interrupt >= 0) poll->add(interrupt, token_interrupt);
  if (tail >= 0) poll->add(tail, token_tail);
  tail_ = tail;
  poll_ = std::move(poll);
}

void SupervisorPoll::wait(Deadline deadline) {
  if (tokens_.empty()) poll_->wait(tokens_, deadline);
}

SupervisorPoll::Event SupervisorPoll::event() const noexcept {
  KINDRED_ASSERT(!tokens_.empty());
  const std::uint64_t token = tokens_.back();
  switch (token) {
    case token_interrupt: return {.kind = Event::Kind::interrupt};
    case token_tail: return {.kind = Event::Kind::tail};
    case token_launcher: return {.kind = Event::Kind::launcher};
    default: break;
  }
  const std::uint64_t place = (token & below_incarnation) - token_slots;
  return {.kind = place % 4 == process ? Event::Kind::death : Event::Kind::message,
          .slot = place / 4,
          .incarnation = static_cast<std::uint32_t>(token >> incarnation_shift)};
}

void SupervisorPoll::hear_interrupt_again(int fd) noexcept { poll_->again(fd, token_interrupt); }
void SupervisorPoll::hear_tail_again() noexcept { poll_->again(tail_, token_tail); }
void SupervisorPoll::stop_hearing_tail() noexcept { poll_->remove(tail_); }

void SupervisorPoll::hear_launcher(int fd) {
  if (launcher_ >= 0) poll_->remove(std::exchange(launcher_, -1));
  if (fd < 0) return;
  poll_->add(fd, token_launcher);
  launcher_ = fd;
}

void SupervisorPoll::hear_worker(const WorkerSlot& slot) {
  poll_->add(slot.worker.process.pidfd(), token_of(slot, process));
  poll_->add(slot.worker.socket.fd(), token_of(slot, socket));
}
void SupervisorPoll::hear_messages_again(const WorkerSlot& slot) noexcept {
  poll_->again(slot.worker.socket.fd(), token_of(slot, socket));
}
void SupervisorPoll::stop_hearing_worker(const WorkerSlot& slot) noexcept {
  poll_->remove(slot.worker.process.pidfd());
  poll_->remove(slot.worker.socket.fd());
}

}  // namespace kindred::internal
